import { execFile } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const dir = mkdtempSync(join(tmpdir(), "pgherd-imports-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

interface CruiseReport {
  readonly summary: {
    readonly violations: readonly { readonly from: string; readonly rule: { readonly name: string } }[];
  };
}

/** A small project in which every forbidden kind of import happens once, judged by the project's own rules. */
async function cruise(files: Readonly<Record<string, string>>): Promise<Map<string, string[]>> {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, path)), { recursive: true });
    writeFileSync(join(dir, path), text);
  }
  cpSync(join(root, ".dependency-cruiser.cjs"), join(dir, ".dependency-cruiser.cjs"));
  cpSync(join(root, "package.json"), join(dir, "package.json"));
  symlinkSync(join(root, "node_modules"), join(dir, "node_modules"));
  const program = join(root, "node_modules/dependency-cruiser/bin/dependency-cruise.mjs");
  const argv = [program, "--config", ".dependency-cruiser.cjs", "--output-type", "json", "src"];
  // The exit code is the number of violations: not a failure of the program.
  const output = await new Promise<string>((resolve) => {
    execFile(process.execPath, argv, { cwd: dir, timeout: 60_000, maxBuffer: 1e8 }, (_, stdout) =>
      resolve(stdout),
    );
  });
  const found = new Map<string, string[]>();
  for (const { from, rule } of (JSON.parse(output) as CruiseReport).summary.violations)
    found.set(from, [...(found.get(from) ?? []), rule.name]);
  return found;
}

describe("the gate on imports", () => {
  it("finds each forbidden import and lets the allowed ones pass", async () => {
    const plain = "export const it = 1;\n";
    const found = await cruise({
      "src/values/plain.ts": plain,
      "src/main.ts": plain,
      "src/dcs/dcs.ts": plain,
      "src/dcs/memory/store.ts": `import { it } from "../dcs.ts";\nexport const copy = it;\n`,
      "src/cli/allowed.ts": `import { it } from "../values/plain.ts";\nexport const copy = it;\n`,
      "src/values/upwards.ts": `import { it } from "../dcs/dcs.ts";\nexport const copy = it;\n`,
      "src/values/typed-upwards.ts": `import type { Kind } from "../cli/kind.ts";\nexport const copy: Kind = 1;\n`,
      "src/cli/kind.ts": "export type Kind = number;\n",
      "src/cluster/io.ts": `import { readFileSync } from "node:fs";\nexport const copy = readFileSync;\n`,
      "src/cluster/package.ts": `import { pino } from "pino";\nexport const copy = pino;\n`,
      "src/cluster/random.ts": `import { randomInt } from "node:crypto";\nexport const copy = randomInt;\n`,
      "src/dcs/etcd/other.ts": `import { copy } from "../memory/store.ts";\nexport const again = copy;\n`,
      "src/agent/to-main.ts": `import { it } from "../main.ts";\nexport const copy = it;\n`,
      "src/agent/to-test.ts": `import { it } from "../../test/support.ts";\nexport const copy = it;\n`,
      "test/support.ts": plain,
      "src/agent/to-tool.ts": `import { defineConfig } from "vitest/config";\nexport const copy = defineConfig;\n`,
      "src/api/one.ts": `import { two } from "./two.ts";\nexport const one = (): number => two();\n`,
      "src/api/two.ts": `import { one } from "./one.ts";\nexport const two = (): number => one();\n`,
      "src/helpers/any.ts": `import { it } from "../values/plain.ts";\nexport const copy = it;\n`,
      "src/notify/nowhere.ts": `import { it } from "./missing.ts";\nexport const copy = it;\n`,
    });
    expect(Object.fromEntries(found)).toEqual({
      "src/values/upwards.ts": ["direction-values"],
      "src/values/typed-upwards.ts": ["direction-values"],
      "src/cluster/io.ts": ["pure"],
      "src/cluster/package.ts": ["pure"],
      "src/dcs/etcd/other.ts": ["adapters-apart"],
      "src/agent/to-main.ts": ["not-to-main"],
      "src/agent/to-test.ts": ["not-to-tests"],
      "src/agent/to-tool.ts": ["not-to-dev"],
      "src/api/one.ts": ["no-cycle"],
      "src/helpers/any.ts": ["unknown-folder"],
      "src/notify/nowhere.ts": ["resolvable"],
    });
  }, 60_000);
});
