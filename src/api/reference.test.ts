import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { faultCatalogue } from "../values/fault.ts";
import { statusOf } from "./fault-status.ts";
import { openApiText, withEndpoints } from "./reference.ts";
import { v1Routes } from "./v1/routes.ts";

const page = (name: string): string =>
  readFileSync(new URL(`../../docs/reference/${name}`, import.meta.url), "utf8");

interface Operation {
  readonly parameters?: readonly { readonly name: string; readonly in: string }[];
  readonly requestBody?: { readonly content: { readonly "application/json": { readonly schema: unknown } } };
  readonly security?: unknown;
}
const document = JSON.parse(openApiText()) as {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, unknown>> };
};

// Stale? npm run build, then node scripts/generate-reference.mjs.
describe("the reference", () => {
  it("describes the API as it is", () => {
    expect(JSON.parse(page("openapi.json"))).toEqual(document);
  });
  it("lists the endpoints there are", () => {
    expect(page("api.md")).toBe(withEndpoints(page("api.md")));
  });
});

describe("the OpenAPI document", () => {
  it("has every route of the table and no other", () => {
    const listed = Object.entries(document.paths).flatMap(([path, operations]) =>
      Object.keys(operations).map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect(listed.sort()).toEqual(v1Routes.map((route) => `${route.method} ${route.path}`).sort());
  });

  it("refers only to shapes that it has", () => {
    const references = [...openApiText().matchAll(/"\$ref": "#\/components\/schemas\/(\w+)"/g)].map(
      ([, name]) => name,
    );
    expect(references.length).toBeGreaterThan(20);
    for (const name of references) expect(Object.keys(document.components.schemas)).toContain(name);
  });

  it("asks for credentials exactly where something changes", () => {
    for (const operations of Object.values(document.paths))
      for (const [method, operation] of Object.entries(operations))
        expect(operation.security !== undefined).toBe(method !== "get");
  });

  it("describes queries and bodies as they are sent", () => {
    const patch = document.paths["/v1/settings"]?.["patch"];
    expect(patch?.parameters?.map((parameter) => parameter.name)).toEqual(["dry_run", "version"]);
    const body = document.paths["/v1/switchover"]?.["post"]?.requestBody?.content["application/json"].schema;
    expect(body).toMatchObject({ type: "object", additionalProperties: false });
    expect(Object.keys((body as { properties: object }).properties)).toEqual([
      "candidate",
      "leader",
      "scheduled_at",
      "dry_run",
      "timeout_s",
    ]);
    expect(document.paths["/v1/reload"]?.["post"]?.requestBody).toBeUndefined();
    expect(document.paths["/v1/nodes/{name}"]?.["delete"]?.parameters).toMatchObject([
      { name: "name", in: "path", required: true },
      { name: "dry_run", in: "query" },
    ]);
  });
});

describe("the status of faults", () => {
  it("is one of failure for every code", () => {
    for (const code of Object.keys(faultCatalogue) as (keyof typeof faultCatalogue)[]) {
      expect(statusOf(code)).toBeGreaterThanOrEqual(400);
      expect(statusOf(code)).toBeLessThan(600);
    }
  });
});
