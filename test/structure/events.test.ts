import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { eventNames } from "../../src/cluster/decision.ts";

const root = new URL("../../", import.meta.url).pathname;
const sources = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts") && !name.endsWith("decision.ts"))
  .map((name) => readFileSync(join(root, "src", name), "utf8"))
  .join("\n");

describe("events", () => {
  it.each(eventNames)("%s is recorded somewhere and stands in the reference", (name) => {
    expect(sources.includes(`"${name}"`)).toBe(true);
    expect(readFileSync(join(root, "docs/reference/events.md"), "utf8")).toContain(`\`${name}\``);
  });
});
