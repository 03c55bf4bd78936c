import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { testRepository, type TestRepository } from "../../../test/support/backup-repository.ts";
import { systemClock, type Clock } from "../../system/clock.ts";
import { systemRandom } from "../../system/random.ts";
import { systemTimers } from "../../system/timers.ts";
import { Fault } from "../../values/fault.ts";
import type { Lsn } from "../../values/lsn.ts";
import type { NodeName, SystemIdentifier, Timeline } from "../../values/names.ts";
import type { WallTime } from "../../values/time.ts";
import { openArchive } from "../wal/open-archive.ts";
import { applyRetention, deleteBackup, type RetentionParts } from "./apply-retention.ts";
import { openCatalogue, type Catalogue } from "./catalogue.ts";
import { forecast } from "./forecast.ts";
import type { BackupRecord, DrillRecord, SegmentRecord } from "./records.ts";
import { currentUses, holdUse } from "./uses.ts";

const log = (): void => undefined;
const line = 1 as Timeline;
const dayMs = 86_400_000;
const now = Date.UTC(2026, 10, 20);

function backup(daysAgo: number, more: Partial<BackupRecord> = {}): BackupRecord {
  const at = new Date(now - daysAgo * dayMs).toISOString() as WallTime;
  return {
    id: `2026-${String(1000 - daysAgo)}-f1`,
    cluster: "shop",
    kind: "full",
    parent: null,
    state: "done",
    startedAt: at,
    endedAt: at,
    source: "db2" as NodeName,
    sourceRole: "standby",
    systemIdentifier: "7300000000000000001" as SystemIdentifier,
    serverVersion: 150_020,
    walSegmentBytes: 1 << 24,
    checksums: true,
    timeline: line,
    startLsn: (BigInt(1000 - daysAgo) << 24n) as Lsn,
    stopLsn: ((BigInt(1000 - daysAgo) << 24n) + 256n) as Lsn,
    stopTimeline: line,
    bytes: 1_000_000,
    storedBytes: 500_000,
    tablespaces: [{ oid: 16_400, location: "/srv/ts", bytes: 5 }],
    corruptPages: 0,
    corruptExamples: [],
    keep: null,
    label: "before the upgrade",
    error: null,
    ...more,
  };
}

let place: TestRepository;
let catalogue: Catalogue;
const open = (): Promise<Catalogue> => openCatalogue({ repository: place.repository, cluster: "shop", log });

beforeEach(async () => {
  place = await testRepository();
  catalogue = await open();
});
afterEach(() => place.remove());

it("has the same records after a restart, made from the repository alone", async () => {
  const drill: DrillRecord = {
    id: "d1",
    backup: backup(1).id,
    startedAt: "2026-11-20T01:00:00.000Z" as WallTime,
    endedAt: "2026-11-20T01:10:00.000Z" as WallTime,
    passed: true,
    target: "latest",
    reachedLsn: 0x5_0000_0000n as Lsn,
    reachedTime: null,
    restoreMs: 5,
    replayMs: 7,
    steps: [{ name: "pg_amcheck", passed: true, detail: "", ms: 3 }],
  };
  for (const each of [backup(1), backup(3), backup(2, { state: "running", endedAt: null, stopLsn: null })])
    await catalogue.put(each);
  await catalogue.putDrill(drill);
  const again = await open();
  expect(again.backups()).toEqual([
    backup(3),
    backup(2, { state: "running", endedAt: null, stopLsn: null }),
    backup(1),
  ]);
  expect(again.drills()).toEqual([drill]);
  await again.keep(backup(1).id, "full");
  await catalogue.refresh();
  expect(catalogue.backup(backup(1).id)?.keep).toBe("full");
  await expect(again.keep("nothing", "full")).rejects.toMatchObject({ code: "BACKUP_NOT_FOUND" });
});

it("shows a record that was put while an older look at the repository was on its way", async () => {
  await catalogue.put(backup(2));
  const looks = [catalogue.refresh(), catalogue.refresh()];
  await catalogue.put(backup(1));
  await Promise.all(looks);
  expect(catalogue.backup(backup(1).id)).toEqual(backup(1));
});

it("loses nothing of a record that two change, and deletes none that was kept a moment before", async () => {
  await catalogue.put(backup(1, { state: "waiting" }));
  const known = backup(1, { state: "waiting" });
  await Promise.all([catalogue.keep(known.id, "full"), catalogue.change(known.id, { state: "done" })]);
  expect(catalogue.backup(known.id)).toEqual({ ...known, state: "done", keep: "full" });
  const kept = catalogue.keep(known.id, "standalone");
  expect(await catalogue.remove(known.id)).toBe(false);
  expect((await open()).backups()).toEqual([await kept]);
});

it("names a damaged record, and has the others", async () => {
  await catalogue.put(backup(1));
  await catalogue.put(backup(2));
  const key = catalogue.keysOf(backup(2).id).record;
  writeFileSync(join(place.dir, key), "garbage");
  await catalogue.refresh();
  expect(catalogue.backups()).toEqual([backup(1)]);
  expect(catalogue.damaged()).toEqual([key]);
});

it("completes a deletion that was killed, at whatever point", async () => {
  for (let calls = 1; ; calls += 1) {
    await catalogue.put(backup(1));
    await place.repository.write(catalogue.keysOf(backup(1).id).manifest, Buffer.from("manifest"));
    await place.repository.write(`${catalogue.keysOf(backup(1).id).content}/root`, Buffer.from("root"));
    const { store } = place.repository;
    const really = store.delete.bind(store);
    let left = calls;
    store.delete = async (key) => {
      if (left === 0) throw new Fault("BACKUP_STORE_UNREACHABLE", "killed");
      left -= 1;
      return really(key);
    };
    const ended = await catalogue.remove(backup(1).id).then(
      () => true,
      () => false,
    );
    store.delete = really;
    const again = await open();
    expect(again.backups()).toEqual([]);
    expect(
      readdirSync(place.dir, { recursive: true })
        .filter((name) => String(name).includes(backup(1).id))
        .filter((name) => /json|manifest|root|deleted/.test(String(name))),
    ).toEqual([]);
    if (ended) break;
    expect(calls).toBeLessThan(10);
  }
});

it("keeps what is read until it is released, or its reader is long gone", async () => {
  const clockAt = (ms: number): Clock => ({
    ...systemClock,
    wall: () => new Date(ms).toISOString() as WallTime,
  });
  const parts = {
    repository: place.repository,
    cluster: "shop",
    timers: systemTimers,
    random: systemRandom,
    log,
  };
  const use = { backup: backup(1).id, timeline: line, fromLsn: backup(1).startLsn };
  const held = await holdUse({ ...parts, clock: clockAt(now) }, use, "a test");
  const usesAt = (ms: number) => currentUses({ ...parts, clock: clockAt(ms) });
  expect(await usesAt(now + 30 * 60_000)).toEqual([use]);
  expect(await usesAt(now - dayMs)).toEqual([use]);
  expect(await usesAt(now + 36 * 60_000)).toEqual([]);
  expect(await usesAt(now)).toEqual([]);
  await held.release();
  const again = await holdUse({ ...parts, clock: clockAt(now) }, use, "a test");
  await again.release();
  expect(await usesAt(now)).toEqual([]);
});

it("applies retention, and deletes by hand only what may go", async () => {
  const clock: Clock = { ...systemClock, wall: () => new Date(now).toISOString() as WallTime };
  const archive = await openArchive({ repository: place.repository, cluster: "shop", clock, log });
  const parts: RetentionParts = {
    repository: place.repository,
    catalogue,
    archive,
    policy: { kind: "redundancy", copies: 2 },
    minimumRedundancy: 2,
    nodes: [],
    clock,
    log,
  };
  for (const days of [1, 2, 3, 4]) await (await open()).put(backup(days));
  const use = { backup: backup(4).id, timeline: line, fromLsn: backup(4).startLsn };
  const held = await holdUse(
    { ...parts, cluster: "shop", timers: systemTimers, random: systemRandom },
    use,
    "a test",
  );
  expect((await applyRetention(parts)).backups).toEqual([backup(3).id]);
  await expect(deleteBackup(parts, backup(4).id, { dryRun: false })).rejects.toMatchObject({
    code: "BACKUP_NEEDED",
  });
  await held.release();
  expect((await deleteBackup(parts, backup(4).id, { dryRun: true })).backups).toEqual([backup(4).id]);
  expect(catalogue.backups()).toHaveLength(3);
  await deleteBackup(parts, backup(4).id, { dryRun: false });
  await expect(deleteBackup(parts, backup(1).id, { dryRun: false })).rejects.toMatchObject({
    code: "BACKUP_NEEDED",
  });
  await expect(deleteBackup(parts, "nothing", { dryRun: false })).rejects.toMatchObject({
    code: "BACKUP_NOT_FOUND",
  });
  expect(catalogue.backups().map((each) => each.id)).toEqual([backup(2).id, backup(1).id]);
  await archive.close();
});

it("tells when the repository is full, if it ever is", () => {
  const segments = Array.from({ length: 7 * 24 }, (_, hour) => ({
    storedBytes: 100,
    archivedAt: new Date(now - hour * 3_600_000 - 1).toISOString() as WallTime,
  })) as unknown as SegmentRecord[];
  const backups = [14, 7, 0].map((days) => backup(days, { storedBytes: 7_000 }));
  const window = { kind: "window", ms: 28 * dayMs } as const;
  const seen = forecast({ freeBytes: 17_000, policy: window, backups, segments, now });
  expect(seen.walPerDay).toBeCloseTo(2_400, -2);
  expect(seen.backupPerDay).toBeCloseTo(1_000, 5);
  // Grows by 3400 a day until the oldest is 28 + 7 days old, in 21 days: 71400 are to come, and 17000 are free.
  expect(seen.daysLeft).toBeCloseTo(5, 0);
  expect(forecast({ freeBytes: 80_000, policy: window, backups, segments, now }).daysLeft).toBeNull();
  expect(forecast({ freeBytes: null, policy: window, backups, segments, now }).daysLeft).toBeNull();
  expect(forecast({ freeBytes: 1, policy: window, backups: [], segments: [], now })).toEqual({
    walPerDay: null,
    backupPerDay: null,
    steadyBytes: null,
    daysLeft: null,
  });
});
