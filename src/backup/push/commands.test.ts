import { execFile, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { systemTimers } from "../../system/timers.ts";
import { archiveCommand, prepareSpool, restoreCommand, type SpoolPaths } from "./commands.ts";

let dir: string;
let paths: SpoolPaths;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "pgherd-spool-"));
  paths = await prepareSpool(join(dir, "spool"), "restore");
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const name = "000000010000000000000007";
/** As PostgreSQL runs it: %f and %p replaced, by a shell. */
const filled = (command: string, file = name): string =>
  command.replaceAll("%f", file).replaceAll("%p", join(dir, "target file"));
const run = (command: string): number | null => spawnSync("/bin/sh", ["-c", filled(command)]).status;
const runLater = (command: string): Promise<number> =>
  new Promise((resolve) => {
    execFile("/bin/sh", ["-c", filled(command)], (error) => resolve(error === null ? 0 : Number(error.code)));
  });
const serve = (): void => writeFileSync(paths.pid, `${process.pid}\n`);

async function asked(folder: string): Promise<void> {
  for (let tries = 0; tries < 1_000 && !existsSync(join(folder, name)); tries += 1)
    await systemTimers.sleep(10);
  expect(existsSync(join(folder, name))).toBe(true);
}

describe("restore_command", () => {
  it("takes a file that is ready, once", () => {
    writeFileSync(join(paths.in, name), "wal");
    expect(run(restoreCommand(paths.dir))).toBe(0);
    expect(readFileSync(join(dir, "target file"), "utf8")).toBe("wal");
    expect(existsSync(join(paths.in, name))).toBe(false);
  });

  it("asks, waits, and gives the answer on", async () => {
    serve();
    const waiting = runLater(restoreCommand(paths.dir));
    await asked(paths.want);
    writeFileSync(join(paths.in, `.${name}`), "late");
    writeFileSync(join(paths.in, name), "late");
    expect(await waiting).toBe(0);
    expect(readFileSync(join(dir, "target file"), "utf8")).toBe("late");
  });

  it.each([
    [1, "not there"],
    [250, "cannot be told"],
  ])("ends with %d for %s, and not with the answer of an earlier question", async (code) => {
    serve();
    writeFileSync(join(paths.no, name), "77\n");
    const waiting = runLater(restoreCommand(paths.dir));
    await asked(paths.want);
    await systemTimers.sleep(100);
    writeFileSync(join(paths.no, name), `${code}\n`);
    expect(await waiting).toBe(code);
    expect(existsSync(join(paths.no, name))).toBe(false);
  });

  it("on a standby does not wait for a process that is gone", async () => {
    const standby = await prepareSpool(join(dir, "standby"), "standby");
    expect(run(restoreCommand(standby.dir))).toBe(1);
    writeFileSync(standby.pid, "4194303\n");
    expect(run(restoreCommand(standby.dir))).toBe(1);
  });

  it("in a restore says that it cannot be told when the file cannot be put in place", () => {
    writeFileSync(join(paths.in, name), "wal");
    const command = restoreCommand(paths.dir).replaceAll("%p", join(dir, "no/such/place"));
    expect(spawnSync("/bin/sh", ["-c", filled(command)]).status).toBe(250);
  });

  it("asks for a file that was taken away between its look and its move", async () => {
    serve();
    writeFileSync(join(paths.in, name), "old");
    // What removes it in between is a `mv` that comes first.
    const first = restoreCommand(paths.dir).replace("&& mv", `&& rm ${join(paths.in, name)} && mv`);
    const waiting = runLater(first);
    await asked(paths.want);
    writeFileSync(join(paths.in, name), "wal");
    expect(await waiting).toBe(0);
  });

  it("answers hits with no more than a test and a mv each", () => {
    for (let index = 0; index < 100; index += 1) writeFileSync(join(paths.in, `F${index}`), "wal");
    // As PostgreSQL calls it: a new shell for each file.
    const command = restoreCommand(paths.dir).replaceAll("%f", "F$1").replaceAll("%p", "$2");
    const loop = `i=0; while test $i -lt 100; do /bin/sh -c '${command}' sh $i '${join(dir, "target")}' || exit 9; i=$((i+1)); done`;
    expect(spawnSync("/bin/sh", ["-c", loop]).status).toBe(0);
  });
});

describe("archive_command", () => {
  it("succeeds once for a file that is marked", () => {
    serve();
    writeFileSync(join(paths.out, name), "");
    expect(run(archiveCommand(paths.dir))).toBe(0);
    expect(existsSync(join(paths.out, name))).toBe(false);
  });

  it("waits for the mark", async () => {
    serve();
    const waiting = runLater(archiveCommand(paths.dir));
    await asked(paths.ask);
    writeFileSync(join(paths.out, name), "");
    expect(await waiting).toBe(0);
  });

  it("fails at once when the question was refused, or nobody serves", async () => {
    expect(run(archiveCommand(paths.dir))).toBe(1);
    rmSync(join(paths.ask, name));
    serve();
    const waiting = runLater(archiveCommand(paths.dir));
    await asked(paths.ask);
    rmSync(join(paths.ask, name));
    expect(await waiting).toBe(1);
  });
});

it("takes no path that a shell could read differently", async () => {
  for (const bad of ["relative/path", "/tmp/a b", "/tmp/a'b", "/tmp/$(x)", "/tmp/%p"])
    await expect(prepareSpool(bad, "standby")).rejects.toMatchObject({ code: "CONFIG_INVALID" });
});
