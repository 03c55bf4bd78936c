import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { makeTempDir } from "../support/process.ts";

const suite = fileURLToPath(new URL("../../fault/backup-suite.mjs", import.meta.url));

// A smoke number: `npm run fault:backup` plays as many rounds as it is told.
it("every acknowledged commit is found in the repository alone, however its primaries died", async () => {
  const logs = makeTempDir("backup-kills");
  const words = [suite, "--rounds", "3", "--every", "3", "--json", "--logs", logs.path];
  const { stdout } = await promisify(execFile)(process.execPath, words, { timeout: 600_000 }).catch(
    (failed: unknown) => {
      const { stdout: out, stderr } = failed as { readonly stdout: string; readonly stderr: string };
      throw new Error(`${out}\n${stderr}`);
    },
  );
  const result = JSON.parse(stdout) as { readonly acknowledged: number };
  expect(result).toMatchObject({ rounds: 3, restores: 1, lost: 0, duplicated: 0, strange: 0, bad: 0 });
  expect(result.acknowledged).toBeGreaterThan(100);
  await logs.remove();
}, 620_000);
