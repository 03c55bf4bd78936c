import { healthPaths } from "./patroni/health.ts";
import { patroniRoutes } from "./patroni/routes.ts";
import { openApiDocument } from "./v1/openapi.ts";
import { v1Routes } from "./v1/routes.ts";

/** The text of docs/reference/openapi.json. */
export function openApiText(): string {
  return `${JSON.stringify(openApiDocument(v1Routes), null, 2)}\n`;
}

const begin = "<!-- endpoints: generated from the route tables by scripts/generate-reference.mjs -->";
const end = "<!-- end of endpoints -->";

/** docs/reference/api.md with its list of endpoints as the route tables have it; the rest stays as it is. */
export function withEndpoints(guide: string): string {
  const from = guide.indexOf(begin);
  const to = guide.indexOf(end);
  if (from < 0 || to < from)
    throw new Error("docs/reference/api.md has lost the marks around its list of endpoints");
  return `${guide.slice(0, from)}${begin}\n\n${endpoints()}\n\n${guide.slice(to)}`;
}

interface Row {
  readonly method: string;
  readonly path: string;
  readonly summary: string;
}

function endpoints(): string {
  const health = new Set(Object.keys(healthPaths));
  return [
    "### pgherd's own",
    table(v1Routes),
    "### Patroni's health checks (GET, HEAD, OPTIONS)",
    table(patroniRoutes.filter((route) => health.has(route.path))),
    "### Patroni's information and operations",
    table(patroniRoutes.filter((route) => !health.has(route.path))),
  ].join("\n\n");
}

function table(rows: readonly Row[]): string {
  const lines = rows.map((row) => `| ${row.method} | \`${row.path}\` | ${row.summary} |`);
  return ["| method | path | |", "| --- | --- | --- |", ...lines].join("\n");
}
