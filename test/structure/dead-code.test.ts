import { execFile } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const dir = mkdtempSync(join(tmpdir(), "pgherd-dead-code-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** Runs the gate in a small project; its lines and its exit code. */
function findIn(files: Readonly<Record<string, string>>): Promise<{ code: unknown; lines: string[] }> {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, path)), { recursive: true });
    writeFileSync(join(dir, path), text);
  }
  for (const name of ["dead-code.mjs", "run.mjs"])
    cpSync(join(root, "scripts", name), join(dir, "scripts", name));
  symlinkSync(join(root, "node_modules"), join(dir, "node_modules"));
  return new Promise((resolve) => {
    execFile(process.execPath, ["scripts/dead-code.mjs"], { cwd: dir, timeout: 60_000 }, (error, stdout) =>
      resolve({
        code: error === null ? 0 : error.code,
        lines: stdout.split("\n").filter((line) => line !== ""),
      }),
    );
  });
}

describe("the gate on dead code", () => {
  it("finds what nobody uses and lets the rest pass", async () => {
    const { code, lines } = await findIn({
      "package.json": JSON.stringify({ dependencies: { pg: "*", unwanted: "*" } }),
      "src/main.ts": `import { Client } from "pg";\nimport { used } from "./part.ts";\nawait import("./lazy.ts");\nused(Client);\n`,
      "src/lazy.ts": "export const whole = 1;\n",
      "src/part.ts": [
        "export interface Shape { readonly size: number }",
        "export const used = (it: unknown): Shape => ({ size: tested(String(it)) });",
        "export const tested = (text: string): number => text.length;",
        "export const forTestsAlone = 1;",
        "export const needless = 2;",
        "export const twice = needless + needless;",
        "export type Nothing = never;",
      ].join("\n"),
      "src/part.test.ts": `import { tested, forTestsAlone } from "./part.ts";\ntested(String(forTestsAlone));\n`,
      "src/orphan.ts": "export const alone = 1;\n",
      "src/tested-orphan.ts": "export const seen = 1;\nexport const sum = seen + seen;\n",
      "src/tested-orphan.test.ts": `import { seen, sum } from "./tested-orphan.ts";\nif (seen === sum) throw new Error();\n`,
    });
    expect(lines.sort()).toEqual([
      "package.json  unwanted: no file imports it",
      "src/orphan.ts  nothing reaches this file",
      "src/orphan.ts:1  alone: nobody uses it",
      "src/part.ts:4  forTestsAlone: only its test uses it",
      "src/part.ts:5  needless: used in its own file only: export it no more",
      "src/part.ts:6  twice: nobody uses it",
      "src/part.ts:7  Nothing: nobody uses it",
      "src/tested-orphan.ts  only tests reach this file",
      "src/tested-orphan.ts:2  sum: only its test uses it",
    ]);
    expect(code).toBe(1);
  }, 60_000);
});
