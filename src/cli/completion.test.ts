import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { memoryIo } from "../../test/support/cli.ts";
import { completionScript } from "./completion.ts";
import { commandPaths, createProgram } from "./program.ts";
import { renderCliReference } from "../../test/support/cli-reference.ts";

const program = createProgram(() => () => Promise.resolve(), memoryIo().io);

describe("completion", () => {
  it.each(["bash", "zsh", "fish"] as const)("of %s knows every command and option of the tree", (shell) => {
    const script = completionScript(shell, program);
    for (const { words, command } of commandPaths(program)) {
      expect(script).toContain(words.join(" "));
      for (const option of command.options)
        expect(script).toContain(
          shell === "fish" ? `-l ${option.long?.slice(2) ?? ""}` : (option.long ?? ""),
        );
    }
  });

  it.each([
    ["pgherd sw", "switchover"],
    ["pgherd node ch", "check"],
    ["pgherd restart --role st", "standby"],
    ["pgherd --json completion fi", "fish"],
    ["pgherd switchover --dr", "--dry-run"],
  ])("in bash completes `%s` to `%s`", (line, expected) => {
    const words = line.split(" ");
    const list = words.map((word) => `'${word}'`).join(" ");
    const script = `${completionScript("bash", program)}
COMP_WORDS=(${list}); COMP_CWORD=${words.length - 1}; _pgherd; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { stdout, stderr } = spawnSync("bash", ["--norc", "-c", script], {
      encoding: "utf8",
      timeout: 10_000,
    });
    expect(stderr).toBe("");
    expect(stdout.trim().split("\n")).toContain(expected);
  });
});

describe("docs/reference/cli.md", () => {
  it("is what the command tree yields (PGHERD_WRITE_REFERENCE=1 writes it)", () => {
    const file = new URL("../../docs/reference/cli.md", import.meta.url);
    const rendered = renderCliReference();
    if (process.env["PGHERD_WRITE_REFERENCE"] === "1") writeFileSync(file, rendered);
    expect(readFileSync(file, "utf8")).toBe(rendered);
  });

  it("has a section for every command", () => {
    const text = renderCliReference();
    for (const { words } of commandPaths(program)) expect(text).toContain(`\n## ${words.join(" ")}\n`);
  });
});
