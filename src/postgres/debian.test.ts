import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { dataDirectoryIn, disableServiceStart, findServiceFor } from "./debian.ts";

describe("Debian's service for a data directory", () => {
  let dir: string;
  let etc: string;
  const cluster = (version: string, name: string, dataDir: string, start?: string): string => {
    const config = join(etc, version, name);
    mkdirSync(config, { recursive: true });
    writeFileSync(
      join(config, "postgresql.conf"),
      `port = 5432\ndata_directory = '${dataDir}'\t# use data there\n`,
    );
    if (start !== undefined) writeFileSync(join(config, "start.conf"), `# comment\n\n${start}\n`);
    return config;
  };
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "pgherd-debian-"));
    etc = join(dir, "etc");
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  test("is found by its data_directory", async () => {
    cluster("14", "old", "/var/a", "auto");
    const configDir = cluster("15", "main", "/var/b", "manual");
    const expected = {
      unit: "postgresql@15-main",
      configDir,
      startConf: join(configDir, "start.conf"),
      start: "manual",
    };
    expect(await findServiceFor("/var/b", etc)).toEqual(expected);
    expect(await findServiceFor("/var/c", etc)).toBeNull();
    expect(await findServiceFor("/var/b", join(dir, "nowhere"))).toBeNull();
  });

  test("starts with the machine when start.conf is missing", async () => {
    cluster("15", "main", "/var/b");
    expect((await findServiceFor("/var/b", etc))?.start).toBe("auto");
  });

  test("is disabled after its start.conf was put aside", async () => {
    cluster("15", "main", "/var/b", "auto");
    const service = (await findServiceFor("/var/b", etc))!;
    await disableServiceStart(service, join(dir, "backup"));
    expect((await findServiceFor("/var/b", etc))?.start).toBe("disabled");
    expect(readFileSync(join(dir, "backup/start.conf.postgresql@15-main"), "utf8")).toContain("auto");
  });

  test("that cannot be changed is a fault with the command to run", async () => {
    const configDir = cluster("15", "main", "/var/b");
    mkdirSync(join(configDir, "start.conf")); // cannot be written, not even by root
    chmodSync(configDir, 0o500);
    const service = (await findServiceFor("/var/b", etc))!;
    const hint = `Run as root: echo disabled > ${service.startConf}`;
    await expect(disableServiceStart(service, join(dir, "backup"))).rejects.toMatchObject({
      code: "FOREIGN_SERVICE",
      hint,
    });
    chmodSync(configDir, 0o700);
  });

  test("data_directory is read in every form PostgreSQL accepts", () => {
    expect(dataDirectoryIn("data_directory='/a b'")).toBe("/a b");
    expect(dataDirectoryIn("  data_directory /plain # x")).toBe("/plain");
    expect(dataDirectoryIn("data_directory = '/it''s'")).toBe("/it's");
    expect(dataDirectoryIn("#data_directory = 'ConfigDir'")).toBeNull();
  });
});
