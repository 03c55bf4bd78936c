import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { findBinDir } from "./bin-dir.ts";

let dir = "";
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "pgherd-bin-"));
});
afterEach(() => rmSync(dir, { recursive: true }));

function programs(name: string, names = ["postgres", "initdb", "pg_controldata"]): string {
  const bin = join(dir, name);
  mkdirSync(bin);
  for (const program of names) {
    writeFileSync(join(bin, program), "");
    chmodSync(join(bin, program), 0o755);
  }
  return bin;
}

test("the directory that is set is taken as it is", () => {
  const binDir = programs("own");
  expect(findBinDir({ binDir, dataDir: join(dir, "data") }, {})).toBe(binDir);
});

test("a directory that is set but has no server is a fault, whatever else is installed", () => {
  const binDir = programs("client", ["psql"]);
  expect(() => findBinDir({ binDir, dataDir: join(dir, "data") }, {})).toThrow(
    expect.objectContaining({ code: "BINARIES_MISSING" }),
  );
});

test("for data of a version that is not installed by package, PATH is searched, client-only directories left out", () => {
  const dataDir = join(dir, "data");
  mkdirSync(dataDir);
  writeFileSync(join(dataDir, "PG_VERSION"), "99\n");
  const client = programs("client", ["psql"]);
  const server = programs("server");
  const environment = { PATH: `relative:${client}:${server}` };
  expect(findBinDir({ binDir: null, dataDir }, environment)).toBe(server);
});

test("without programs anywhere the fault names the version that was looked for", () => {
  const dataDir = join(dir, "data");
  mkdirSync(dataDir);
  writeFileSync(join(dataDir, "PG_VERSION"), "99\n");
  expect(() => findBinDir({ binDir: null, dataDir }, {})).toThrow(
    expect.objectContaining({
      code: "BINARIES_MISSING",
      detail: expect.stringContaining("PostgreSQL 99") as string,
    }),
  );
});
