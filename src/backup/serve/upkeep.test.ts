import { beforeEach, describe, expect, it, vi } from "vitest";
import { ManualTime } from "../../../test/support/manual-time.ts";
import { Fault } from "../../values/fault.ts";
import type { WallTime } from "../../values/time.ts";
import type { BackupRecord } from "../catalogue/records.ts";
import type { WalArchive } from "../wal/archive.ts";
import type { Catalogue } from "../catalogue/catalogue.ts";
import type { Opened, ServedCluster } from "./cluster.ts";
import { ClusterUpkeep } from "./upkeep.ts";

const applied: unknown[] = [];
const failures: Fault[] = [];

const backup = (id: string, state: BackupRecord["state"]): BackupRecord =>
  ({
    id,
    state,
    startedAt: `2026-11-21T0${id.length}:00:00.000Z`,
    timeline: 1,
    startLsn: 0x1000000n,
    stopLsn: 0x2000000n,
    stopTimeline: 1,
  }) as unknown as BackupRecord;

describe("the upkeep of a cluster", () => {
  let time: ManualTime;
  let backups: BackupRecord[];
  let archivedTo: bigint;
  let nudges: number;
  let nudgeFault: Fault | null;
  let deleted: number;
  let reviews: number;
  let upkeep: ClusterUpkeep;

  beforeEach(() => {
    applied.length = 0;
    failures.length = 0;
    time = new ManualTime("2026-11-21T12:00:00.000Z" as WallTime);
    backups = [];
    archivedTo = 0x1800000n;
    nudges = 0;
    nudgeFault = null;
    deleted = 0;
    reviews = 0;
    const catalogue = {
      backups: () => backups,
      refresh: () => Promise.resolve(),
      change: (id: string, over: Partial<BackupRecord>) => {
        backups = backups.map((each) => (each.id === id ? { ...each, ...over } : each));
        return Promise.resolve();
      },
    } as unknown as Catalogue;
    const archive = {
      segmentBytes: 1 << 24,
      coverage: () => [{ start: 0x1000000n, end: archivedTo, timeline: 1 }],
    } as unknown as WalArchive;
    const cluster = {
      name: "shop",
      review: () => {
        reviews += 1;
        return Promise.resolve();
      },
    } as unknown as ServedCluster;
    upkeep = new ClusterUpkeep({
      cluster,
      opened: () => ({ catalogue, archive, repository: {} }) as unknown as Opened,
      clock: time,
      timers: time,
      log: () => undefined,
      onReviewed: () => undefined,
      nudge: () => {
        nudges += 1;
        return nudgeFault === null ? Promise.resolve() : Promise.reject(nudgeFault);
      },
      retain: () => {
        const failure = failures.shift();
        if (failure !== undefined) return Promise.reject(failure);
        applied.push("retention");
        return Promise.resolve({ backups: ["old"], walSegments: 3, walBytes: 9 });
      },
      onDeleted: () => {
        deleted += 1;
      },
    });
    upkeep.start();
  });

  /** One round, and the timer of the next one. */
  async function pass(ms: number): Promise<void> {
    time.pass(ms);
    await vi.waitFor(() => expect(time.waiting).toBe(1));
  }
  async function ended(good: boolean): Promise<void> {
    upkeep.jobEnded(good);
    time.pass(0);
    await Promise.resolve();
    await pass(0);
  }

  it("completes a backup when its WAL is there, ends the segment it waits for once, and applies retention only then", async () => {
    backups = [backup("a", "waiting")];
    await ended(true);
    await vi.waitFor(() => expect(nudges).toBe(1));
    for (let round = 0; round < 5; round += 1) await pass(2_000);
    expect([backups[0]?.state, nudges, applied.length]).toEqual(["waiting", 1, 0]);
    archivedTo = 0x2000000n;
    await pass(2_000);
    await vi.waitFor(() => expect(applied).toEqual(["retention"]));
    expect([backups[0]?.state, deleted]).toEqual(["done", 1]);
    for (let round = 0; round < 5; round += 1) await pass(2_000);
    expect(applied).toHaveLength(1);
  });

  it("ends the segment again, but not all the time, when nobody could be reached", async () => {
    backups = [backup("a", "waiting")];
    nudgeFault = new Fault("NO_LEADER", "no leader");
    await ended(true);
    await vi.waitFor(() => expect(nudges).toBe(1));
    for (let round = 0; round < 20; round += 1) await pass(200);
    expect(nudges).toBe(1);
    for (let round = 0; round < 35; round += 1) await pass(200);
    await vi.waitFor(() => expect(nudges).toBe(2));
  });

  it("does not let a backup whose WAL never comes keep retention from a later one", async () => {
    backups = [backup("a", "waiting"), backup("bb", "done")];
    await ended(true);
    await vi.waitFor(() => expect(applied).toHaveLength(1));
  });

  it("applies retention again when the store refused in its middle", async () => {
    backups = [backup("a", "done")];
    failures.push(new Fault("BACKUP_STORE_FAILED", "refused"));
    await ended(true);
    await vi.waitFor(() => expect(failures).toEqual([]));
    expect(applied).toEqual([]);
    await pass(2_000);
    await vi.waitFor(() => expect(applied).toHaveLength(1));
  });

  it("applies nothing after a job that made no backup, and looks at everything anew", async () => {
    backups = [backup("a", "done")];
    const before = reviews;
    await ended(false);
    await vi.waitFor(() => expect(reviews).toBeGreaterThan(before));
    await pass(2_000);
    expect(applied).toEqual([]);
  });

  it("does nothing after it was stopped", async () => {
    await upkeep.stop();
    time.pass(60_000);
    expect([time.waiting, reviews]).toEqual([0, 0]);
  });
});
