import { fork } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, readSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseJobReport, type JobReport } from "../../src/backup/base/job-protocol.ts";
import { pageChecksum } from "../../src/backup/base/page-checksum.ts";
import { toFault } from "../../src/values/fault.ts";
import { BackupPlace } from "../support/backup-base.ts";
import { caughtUp, postgresSet, type TestPostgres } from "../support/postgres.ts";
import { waitFor } from "../support/process.ts";

const set = postgresSet("bb");
afterAll(() => set.remove());

let primary: TestPostgres;
let standby: TestPostgres;
beforeAll(async () => {
  primary = await set.primary("a");
  standby = await set.standby("b", primary);
  await primary.sql("create table big as select i, md5(i::text) as text from generate_series(1, 400000) i");
  await primary.sql("create table small as select i from generate_series(1, 1000) i");
  await caughtUp(standby, primary);
});

async function relationFile(name: string): Promise<string> {
  const rows = await primary.sql(`select pg_relation_filepath('${name}') as path`);
  return String(rows[0]?.["path"]);
}

/** The code and detail of what a promise was rejected with. */
async function faultOf(work: Promise<unknown>): Promise<{ code: string; detail: string | null }> {
  try {
    await work;
  } catch (thrown) {
    const { code, detail } = toFault(thrown);
    return { code, detail };
  }
  throw new Error("it was not refused");
}

describe("a base backup", () => {
  let place: BackupPlace;
  let full: string;
  beforeAll(async () => {
    place = await BackupPlace.make(join(set.dir, "repo-1"), [primary, standby]);
  });

  test("of a standby restores to what PostgreSQL's own program finds right", async () => {
    const { summary, progress } = await place.backup({ from: "standby", label: "first" });
    full = summary.id;
    expect(summary).toMatchObject({ kind: "full", state: "waiting", corruptPages: 0 });
    expect(full).toMatch(/^\d{8}T\d{6}-f1$/);
    expect(summary.storedBytes).toBeLessThan(summary.bytes);
    expect(progress.map(({ step }) => step)).toContain("copying");
    expect(await place.restoreAndVerify(full, join(set.dir, "restored-1"))).toContain(
      "successfully verified",
    );
    await place.withRepository((_repository, catalogue) => {
      const record = catalogue.backup(full);
      expect(record).toMatchObject({ sourceRole: "standby", label: "first", checksums: true, timeline: 1 });
      expect(record?.stopLsn ?? 0n).toBeGreaterThan(record?.startLsn ?? 0n);
      return Promise.resolve();
    });
  });

  test("after few changes is incremental, small, and restores alone", async () => {
    await primary.sql("update small set i = i + 1");
    await caughtUp(standby, primary);
    // Of the same server: hint bits are not the same everywhere.
    const { summary } = await place.backup({ from: "standby" });
    expect(summary.kind).toBe("incremental");
    expect(summary.storedBytes).toBeLessThan(summary.bytes / 20);
    await place.withRepository((_repository, catalogue) => catalogue.remove(full));
    expect(await place.restoreAndVerify(summary.id, join(set.dir, "restored-2"))).toContain(
      "successfully verified",
    );
  });

  test("may be asked to be full", async () => {
    const { summary } = await place.backup({ type: "full" });
    expect(summary.kind).toBe("full");
  });

  test("begins anew where the parent cannot be read", async () => {
    await place.withRepository(async (repository, catalogue) => {
      for (const { id } of catalogue.backups())
        for await (const { key } of repository.store.list(catalogue.keysOf(id).content))
          await repository.store.delete(key);
    });
    const { summary, lines } = await place.backup();
    expect(lines.map(({ event }) => event)).toContain("base.parent");
    expect(summary.storedBytes).toBeGreaterThan(summary.bytes / 20);
    expect(await place.restoreAndVerify(summary.id, join(set.dir, "restored-3"))).toContain(
      "successfully verified",
    );
  });

  test("is refused for another cluster under the same name", async () => {
    const other = await set.primary("c");
    const wrong = await BackupPlace.make(join(set.dir, "wrong"), [other]);
    const settings = { ...wrong.settings, repository: place.settings.repository };
    const refused = faultOf(
      Object.assign(Object.create(BackupPlace.prototype) as BackupPlace, wrong, { settings }).backup(),
    );
    expect(await refused).toMatchObject({ code: "DATA_DIR_FOREIGN_CLUSTER" });
  });
});

describe("while a base backup runs", () => {
  test("another one may run", async () => {
    const place = await BackupPlace.make(join(set.dir, "repo-2"), [primary, standby]);
    const both = await Promise.all([place.backup({ from: "primary" }), place.backup({ from: "standby" })]);
    const ids = both.map(({ summary }) => summary.id);
    expect(new Set(ids).size).toBe(2);
    for (const [index, id] of ids.entries())
      expect(await place.restoreAndVerify(id, join(set.dir, `restored-both-${index}`))).toContain(
        "successfully verified",
      );
  });

  test("it keeps to its rate, says so, and can be given up", async () => {
    const place = await BackupPlace.make(join(set.dir, "repo-3"), [primary]);
    const stop = new AbortController();
    const steps: (string | null)[] = [];
    let bytes = 0;
    const made = place.backup(
      { maxRate: 4_000_000 },
      (now) => {
        steps.push(now.heldBackBy);
        bytes = now.doneBytes ?? bytes;
        if (steps.includes("rate limit") && bytes > 2_000_000) stop.abort("the test has seen enough");
      },
      stop.signal,
    );
    expect(await faultOf(made)).toMatchObject({ code: "BACKUP_CANCELLED" });
    expect(bytes).toBeLessThan(12_000_000);
    await place.withRepository(async (repository, catalogue) => {
      expect(catalogue.backups().map(({ state }) => state)).toEqual(["failed"]);
      for await (const { key } of repository.store.list("leases/")) throw new Error(`${key} was left`);
    });
  });

  test("its source may die: it goes on from another one", async () => {
    const third = await set.standby("d", primary);
    const place = await BackupPlace.make(join(set.dir, "repo-4"), [third, primary]);
    let killed = false;
    const { summary, lines } = await place.backup({ maxRate: 20_000_000 }, (now) => {
      if (killed || (now.doneBytes ?? 0) < 4_000_000) return;
      killed = true;
      const pid = Number(readFileSync(join(third.dataDir, "postmaster.pid"), "utf8").split("\n")[0]);
      process.kill(pid, "SIGQUIT");
    });
    expect(killed).toBe(true);
    expect(lines.map(({ event }) => event)).toContain("base.retry");
    await place.withRepository((_repository, catalogue) => {
      expect(catalogue.backups()).toHaveLength(1);
      expect(catalogue.backup(summary.id)).toMatchObject({ sourceRole: "primary", state: "waiting" });
      return Promise.resolve();
    });
  });

  test("its standby may become the primary: it is made again", async () => {
    const fourth = await set.standby("e", primary);
    const place = await BackupPlace.make(join(set.dir, "repo-5"), [fourth, primary]);
    let promoted: Promise<unknown> | null = null;
    const { summary, lines } = await place.backup({ maxRate: 20_000_000, from: "auto" }, (now) => {
      if ((now.doneBytes ?? 0) > 4_000_000) promoted ??= fourth.sql("select pg_promote()");
    });
    await (promoted as Promise<unknown> | null);
    expect(lines.map(({ event }) => event)).toContain("base.retry");
    expect(await place.restoreAndVerify(summary.id, join(set.dir, "restored-5"))).toContain(
      "successfully verified",
    );
  });
});

describe("a job that is killed", () => {
  /** Runs one backup in a process of its own, as the daemon does. */
  function start(
    place: BackupPlace,
    maxRate: number | null,
  ): { pid: number; reports: JobReport[]; ended: Promise<unknown>; kill: () => void; leave: () => void } {
    const program = new URL("../../bin/pgherd", import.meta.url).pathname;
    const child = fork(program, ["backup-job"], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    const reports: JobReport[] = [];
    child.on("message", (message) => {
      const report = parseJobReport(message);
      if (report !== null) reports.push(report);
    });
    child.send({
      kind: "start",
      id: "1",
      config: place.file,
      job: { kind: "base", ...place.options({ maxRate }) },
    });
    const ended = new Promise((resolve) => child.on("exit", resolve));
    return {
      pid: child.pid ?? 0,
      reports,
      ended,
      kill: () => child.kill("SIGKILL"),
      leave: () => child.disconnect(),
    };
  }

  test("loses nothing that was there, and the next one cleans up", async () => {
    const place = await BackupPlace.make(join(set.dir, "repo-6"), [primary]);
    const { summary } = await place.backup();
    const killed = start(place, 8_000_000);
    await waitFor(
      () =>
        killed.reports.some(
          (report) => report.kind === "progress" && (report.progress.doneBytes ?? 0) > 4_000_000,
        ),
      { timeoutMs: 30_000, what: "the job copies" },
    );
    killed.kill();
    await killed.ended;
    await place.withRepository((_repository, catalogue) => {
      expect(catalogue.backups().map(({ state }) => state)).toEqual(["waiting", "running"]);
      return Promise.resolve();
    });
    const again = start(place, null);
    await again.ended;
    expect(again.reports.at(-1)).toMatchObject({
      kind: "done",
      result: { state: "waiting", kind: "incremental" },
    });
    await place.withRepository(async (repository, catalogue) => {
      expect(catalogue.backups().map(({ state }) => state)).toEqual(["waiting", "failed", "waiting"]);
      for await (const { key } of repository.store.list("leases/")) throw new Error(`${key} was left`);
    });
    expect(await place.restoreAndVerify(summary.id, join(set.dir, "restored-6"))).toContain(
      "successfully verified",
    );
  });

  test("ends by itself when its daemon is gone", async () => {
    const place = await BackupPlace.make(join(set.dir, "repo-7"), [primary]);
    const job = start(place, 4_000_000);
    await waitFor(() => job.reports.some(({ kind }) => kind === "progress"), {
      timeoutMs: 30_000,
      what: "it runs",
    });
    job.leave();
    await job.ended;
    await place.withRepository((_repository, catalogue) => {
      const [backup] = catalogue.backups();
      expect(backup).toMatchObject({ state: "failed" });
      expect(backup?.error).toContain("the backup server is gone");
      return Promise.resolve();
    });
  });
});

describe("pages", () => {
  test("have the checksum that PostgreSQL stores", async () => {
    await primary.sql("checkpoint");
    const path = join(primary.dataDir, await relationFile("big"));
    const words = new Uint32Array(2048);
    const file = openSync(path, "r");
    const pages = Math.min(200, statSync(path).size / 8192);
    for (let block = 0; block < pages; block += 1) {
      readSync(file, words, 0, 8192, block * 8192);
      expect(pageChecksum(words, block)).toBe((words[2] ?? 0) & 0xffff);
    }
    closeSync(file);
  });

  test("that are damaged at the source are reported, and such a backup is no parent", async () => {
    const place = await BackupPlace.make(join(set.dir, "repo-8"), [primary]);
    await primary.sql("create table bad as select i, md5(i::text) as text from generate_series(1, 20000) i");
    await primary.sql("checkpoint");
    const path = await relationFile("bad");
    const file = openSync(join(primary.dataDir, path), "r+");
    for (const block of [3, 7]) writeSync(file, Buffer.from([0xff, 0x01, 0x55]), 0, 3, block * 8192 + 4000);
    closeSync(file);
    const { summary, lines } = await place.backup();
    expect(summary).toMatchObject({ corruptPages: 2, state: "waiting" });
    expect(lines.find(({ event }) => event === "base.corrupt_pages")?.fields["examples"]).toBe(
      `${path} block 3, ${path} block 7`,
    );
    await primary.sql("drop table bad");
    expect((await place.backup()).summary).toMatchObject({ kind: "full", corruptPages: 0 });
  });
});

test("tablespaces are taken along", async () => {
  const place = await BackupPlace.make(join(set.dir, "repo-9"), [primary]);
  const location = join(set.dir, "space");
  mkdirSync(location, { mode: 0o700 });
  // Its standby on this host would want the same directory.
  await standby.instance.stop("fast", 30_000);
  await primary.sql(`create tablespace space location '${location}'`);
  await primary.sql("create table apart tablespace space as select i from generate_series(1, 10000) i");
  const { summary } = await place.backup();
  await place.withRepository((_repository, catalogue) => {
    const [tablespace] = catalogue.backup(summary.id)?.tablespaces ?? [];
    expect(tablespace).toMatchObject({ location });
    expect(tablespace?.bytes ?? 0).toBeGreaterThan(300_000);
    return Promise.resolve();
  });
  expect(await place.restoreAndVerify(summary.id, join(set.dir, "restored-9"))).toContain(
    "successfully verified",
  );
});
