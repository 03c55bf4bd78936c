import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ManualTime } from "../../../test/support/manual-time.ts";
import { Fault } from "../../values/fault.ts";
import type { WallTime } from "../../values/time.ts";
import type { ReceiverOrder, ReceiverReport, ReceiverStatus } from "../receiver/protocol.ts";
import type { WalArchive } from "../wal/archive.ts";
import type { ChildEvents, StartChild } from "./child.ts";
import { ReceiverKeeper } from "./receiver-keeper.ts";

const segment = "000000010000000000000004";
const facts = { kind: "facts", lastBackupAt: null, lastDrillAt: null, gap: null } as const;
const streaming: ReceiverStatus = {
  state: "streaming",
  source: "db1",
  token: 3,
  timeline: 1,
  flushed: "0/5000060",
  serverEnd: "0/5000060",
  archived: "0/5000000",
  slot: true,
  heardMs: 5,
  completeUntil: null,
  bytes: 1,
  connections: 1,
  pending: 0,
  problem: null,
};

interface FakeChild {
  readonly args: readonly string[];
  readonly events: ChildEvents;
  readonly orders: ReceiverOrder[];
  readonly signals: string[];
}

describe("the keeper of a receiver", () => {
  let dir: string;
  let time: ManualTime;
  let children: FakeChild[];
  let faults: Fault[];
  let stored: string[];
  let gaps: string[];
  let keeper: ReceiverKeeper;
  let openArchive: (archive: WalArchive) => void;
  let archive: WalArchive;

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "pgherd-keeper-"));
    time = new ManualTime("2026-11-21T12:00:00.000Z" as WallTime);
    children = [];
    faults = [];
    stored = [];
    gaps = [];
    const refuse = (): void => {
      const fault = faults.shift();
      if (fault !== undefined) throw fault;
    };
    archive = {
      segmentBytes: 16 * 1024 * 1024,
      timelines: () => [{ timeline: 1, parent: null, forkLsn: null }],
      archivedUpTo: () => 0x4000000n,
      store: ({ name }: { name: string }) => {
        refuse();
        stored.push(name);
        return Promise.resolve("stored");
      },
      storePartial: ({ name, bytes }: { name: string; bytes: Uint8Array }) => {
        refuse();
        stored.push(`${name}.partial ${bytes.length}`);
        return Promise.resolve();
      },
      storeHistory: (timeline: number, text: string) => {
        stored.push(`history ${timeline} ${text}`);
        return Promise.resolve();
      },
      keepOrphan: (orphan: { reason: string }) => {
        stored.push(`orphan ${orphan.reason}`);
        return Promise.resolve();
      },
      recordGap: (gap: { reason: string }) => {
        refuse();
        stored.push(`gap ${gap.reason}`);
        return Promise.resolve();
      },
    } as unknown as WalArchive;
    const opened = new Promise<WalArchive>((resolve) => {
      openArchive = resolve;
    });
    const start: StartChild = (args, events) => {
      const child: FakeChild = { args, events, orders: [], signals: [] };
      children.push(child);
      return {
        pid: 2000 + children.length,
        send: (message) => void child.orders.push(message as ReceiverOrder),
        kill: (signal) => void child.signals.push(signal),
      };
    };
    keeper = new ReceiverKeeper({
      cluster: "shop",
      configFile: "/etc/pgherd/backup.yml",
      start,
      archive: () => opened,
      clock: time,
      timers: time,
      log: () => undefined,
      facts: () => facts,
      onGap: (gap) => gaps.push(gap.reason),
      onStatus: () => undefined,
    });
    keeper.start();
  });

  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  const child = (): FakeChild => children.at(-1)!;
  const report = (message: ReceiverReport): void => child().events.message(message);
  const orders = (kind: ReceiverOrder["kind"]): ReceiverOrder[] =>
    child().orders.filter((order) => order.kind === kind);
  const file = (name: string, text = "bytes"): string => {
    writeFileSync(join(dir, name), text);
    return join(dir, name);
  };
  const segmentReport = (): ReceiverReport => ({
    kind: "segment",
    name: segment,
    path: file(segment),
    token: 3,
    source: "stream from db1",
  });

  const partialReport = (endLsn: string): ReceiverReport => ({
    kind: "partial",
    name: segment,
    path: file("p", "x".repeat(200)),
    endLsn,
    token: 3,
    source: "stream from db1",
  });

  it("starts it for its cluster, and tells it where the archive ends once that is open", async () => {
    expect(child().args).toEqual([
      "backup-receiver",
      "--config",
      "/etc/pgherd/backup.yml",
      "--cluster",
      "shop",
    ]);
    report({ kind: "hello", pid: 1 });
    await Promise.resolve();
    expect(child().orders).toEqual([]);
    openArchive(archive);
    await vi.waitFor(() => expect(orders("facts")).toHaveLength(1));
    expect(orders("start")).toEqual([{ kind: "start", archived: [{ timeline: 1, lsn: "0/4000000" }] }]);
  });

  it("lets what it last told grow older: one that is stopped tells nothing any more", () => {
    report({ kind: "status", status: streaming });
    time.pass(7_000);
    expect(keeper.status()?.heardMs).toBe(7_005);
  });

  it("answers a delivery when the archive has it, in the order they came", async () => {
    openArchive(archive);
    report({ kind: "history", timeline: 2, name: "00000002.history", path: file("h", "text"), token: 3 });
    report(segmentReport());
    report(partialReport("0/4000064"));
    report({
      kind: "orphan",
      id: "o1",
      path: file("o"),
      timeline: 1,
      startLsn: "0/4000000",
      endLsn: "0/4000010",
      token: 3,
      reason: "left behind",
    });
    await vi.waitFor(() => expect(stored).toHaveLength(4));
    expect(stored).toEqual(["history 2 text", segment, `${segment}.partial 100`, "orphan left behind"]);
    expect(orders("stored")).toEqual([
      { kind: "stored", name: "00000002.history", archivedUpTo: null },
      { kind: "stored", name: segment, archivedUpTo: { timeline: 1, lsn: "0/4000000" } },
      { kind: "stored", name: `${segment}.partial`, archivedUpTo: null },
    ]);
    expect(orders("kept")).toEqual([{ kind: "kept", id: "o1" }]);
  });

  it("tries again until a store that is away is back, and answers only then", async () => {
    faults = [new Fault("BACKUP_STORE_UNREACHABLE", "away"), new Fault("BACKUP_STORE_FULL", "full")];
    openArchive(archive);
    report(segmentReport());
    await vi.waitFor(() => expect(time.waiting).toBe(1));
    expect(orders("stored")).toEqual([]);
    time.pass(200);
    await vi.waitFor(() => expect(time.waiting).toBe(1));
    time.pass(400);
    await vi.waitFor(() => expect(orders("stored")).toHaveLength(1));
  });

  it("keeps apart what the archive refuses for good: nothing received is thrown away", async () => {
    faults = [new Fault("BACKUP_WAL_STALE", "The WAL comes from a primary that was replaced")];
    openArchive(archive);
    report(segmentReport());
    await vi.waitFor(() => expect(orders("stored")).toHaveLength(1));
    expect(stored).toEqual(["orphan The WAL comes from a primary that was replaced"]);
  });

  it("keeps a part apart that is refused, and goes on with what comes after it", async () => {
    faults = [new Fault("BACKUP_WAL_INVALID", "It does not begin with the page header of a segment")];
    openArchive(archive);
    report(partialReport("0/4000064"));
    report(segmentReport());
    await vi.waitFor(() => expect(orders("stored")).toHaveLength(2));
    expect(stored).toEqual(["orphan It does not begin with the page header of a segment", segment]);
  });

  it("stores nothing of a segment in which no record ended", async () => {
    openArchive(archive);
    report(partialReport("0/4000000"));
    await vi.waitFor(() => expect(orders("stored")).toHaveLength(1));
    expect(stored).toEqual([]);
  });

  it("tells of a gap once it is recorded", async () => {
    faults = [new Fault("BACKUP_STORE_FAILED", "refused")];
    openArchive(archive);
    const gap = { timeline: 1, startLsn: "0/4000000", endLsn: "0/7000000", reason: "removed on db2" };
    report({ kind: "gap", id: "g1", ...gap });
    await vi.waitFor(() => expect(time.waiting).toBe(1));
    expect(gaps).toEqual([]);
    time.pass(200);
    await vi.waitFor(() => expect(orders("kept")).toEqual([{ kind: "kept", id: "g1" }]));
    expect(gaps).toEqual(["removed on db2"]);
  });

  it("starts it again at once when it dies, less often when it dies again and again", () => {
    openArchive(archive);
    report({ kind: "status", status: streaming });
    expect(keeper.status()).toMatchObject({ state: "streaming", pid: 2001 });
    time.pass(60_000);
    child().events.ended("signal SIGKILL");
    expect(keeper.status()).toBeNull();
    time.pass(0);
    expect(children).toHaveLength(2);
    const starts: number[] = [];
    for (let death = 0; death < 8; death += 1) {
      const before = time.now();
      const count = children.length;
      child().events.ended("exit code 1");
      while (children.length === count) time.pass(50);
      starts.push(time.now() - before);
    }
    expect(starts[0]).toBeLessThanOrEqual(50);
    expect(Math.max(...starts)).toBe(5_000);
  });

  it("listens to none that was replaced", async () => {
    openArchive(archive);
    const old = child();
    time.pass(10_000);
    old.events.ended("exit code 1");
    time.pass(0);
    old.events.message({ kind: "status", status: streaming });
    old.events.message(segmentReport());
    await Promise.resolve();
    expect(keeper.status()).toBeNull();
    expect(stored).toEqual([]);
  });

  it("stops it in order, kills it when it does not end, and starts none after it", async () => {
    openArchive(archive);
    const stopped = keeper.stop();
    expect(orders("stop")).toHaveLength(1);
    time.pass(9_999);
    expect(child().signals).toEqual([]);
    time.pass(1);
    expect(child().signals).toEqual(["SIGKILL"]);
    child().events.ended("signal SIGKILL");
    await stopped;
    time.pass(60_000);
    expect(children).toHaveLength(1);
  });
});
