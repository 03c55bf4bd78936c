import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { backupApiText } from "./reference.ts";

test("docs/reference/backup-api.md is up to date", () => {
  const path = fileURLToPath(new URL("../../../docs/reference/backup-api.md", import.meta.url));
  const hint = "stale: npm run build && node scripts/generate-reference.mjs";
  expect(readFileSync(path, "utf8") === backupApiText(), hint).toBe(true);
});
