import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { plantsFound } from "./found.ts";
import { plants } from "./plants.mjs";

const execute = promisify(execFile);
const root = fileURLToPath(new URL("../../", import.meta.url));
const command = join(root, "scripts/simulate.mjs");

/** A change of the program may let the bug show a few lives later: the search for its seed is the command. */
const lives = "8";

/** Lives from one seed on with a planted bug in a process of its own. */
async function replay(
  plant: string,
  seed: number,
): Promise<{ readonly code: number; readonly output: string }> {
  const args = [command, "--plant", plant, "--from", String(seed), "--seeds", lives, "--json"];
  try {
    const { stdout } = await execute(process.execPath, args, { timeout: 120_000 });
    return { code: 0, output: stdout };
  } catch (thrown) {
    const { code, stdout, stderr } = thrown as { code: number; stdout: string; stderr: string };
    return { code, output: stdout === "" ? stderr : stdout };
  }
}

describe("planted bugs", () => {
  it("are at least twenty, each with the seed that found it", () => {
    expect(Object.keys(plantsFound).length).toBeGreaterThanOrEqual(20);
    expect(Object.keys(plants)).toEqual(expect.arrayContaining(Object.keys(plantsFound)));
  });

  it("replace text that is there exactly once", () => {
    for (const [plant, { patches }] of Object.entries(plants))
      for (const { file, old } of patches) {
        const text = readFileSync(join(root, file), "utf8");
        expect(text.split(old).length - 1, `${plant}: ${old} in ${file}`).toBe(1);
      }
  });

  for (const [plant, { seed, invariant }] of Object.entries(plantsFound))
    it.concurrent(`${plant} breaks ${invariant}`, { timeout: 300_000 }, async () => {
      const { code, output } = await replay(plant, seed);
      expect(code, output).toBe(1);
      const life = JSON.parse(output) as { found: { violations: { invariant: string }[] }[] };
      expect(life.found[0]?.violations[0]?.invariant).toBe(invariant);
    });
});
