import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { ruleTables } from "./decide.ts";

const page = new URL("../../docs/spec/failover.md", import.meta.url);
const [begin, end] = ["<!-- rules:begin -->", "<!-- rules:end -->"];

/** The rule tables as the page shows them. */
function renderTables(): string {
  return Object.entries(ruleTables)
    .map(([mode, rules]) => {
      const rows = rules.map((rule) => `| ${rule.id} | ${rule.summary} |`);
      return [`### ${mode}`, "", "| rule | what it says |", "| --- | --- |", ...rows].join("\n");
    })
    .join("\n\n");
}

describe("docs/spec/failover.md", () => {
  it("lists every rule as the code has it (UPDATE_DOCS=1 writes it)", () => {
    const text = readFileSync(page, "utf8");
    const expected = `${text.slice(0, text.indexOf(begin) + begin.length)}\n\n${renderTables()}\n\n${text.slice(text.indexOf(end))}`;
    if (process.env["UPDATE_DOCS"] === "1") writeFileSync(page, expected);
    expect(readFileSync(page, "utf8")).toBe(expected);
  });

  it("gives every rule an id of its own within its table", () => {
    for (const rules of Object.values(ruleTables)) {
      const ids = rules.map((rule) => rule.id);
      expect(new Set(ids).size).toBe(ids.length);
    }
  });
});
