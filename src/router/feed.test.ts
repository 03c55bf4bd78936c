import { beforeEach, describe, expect, it, vi } from "vitest";
import { nodeRecord, primarySql, standbySql } from "../../test/support/agent-pictures.ts";
import { ManualTime } from "../../test/support/manual-time.ts";
import type { StateFiles } from "../agent/state-files.ts";
import type { LeaseRecord } from "../cluster/records.ts";
import { encodeRecord, keys } from "../dcs/layout.ts";
import { createMemoryDcs, type MemoryDcsHandle } from "../dcs/memory/memory-dcs.ts";
import type { FencingToken, NodeName, Timeline } from "../values/names.ts";
import { systemTimers } from "../system/timers.ts";
import type { WallTime } from "../values/time.ts";
import type { Agents, LeaderStatus, Serving } from "./agents.ts";
import { ClusterFeed } from "./feed.ts";
import { TokenMemory } from "./token-memory.ts";

const db1 = "db1" as NodeName;
const db2 = "db2" as NodeName;
const token = (number: number): FencingToken => number as FencingToken;
const timeline = (number: number): Timeline => number as Timeline;

function lease(over: Partial<LeaseRecord>): LeaseRecord {
  return {
    holder: db1,
    token: token(5),
    renewal: 1,
    ttlMs: 5000,
    state: "serving",
    timeline: timeline(7),
    reservedTimeline: timeline(7),
    origin: null,
    lsn: null,
    release: null,
    servingSince: null,
    ...over,
  };
}

const files: StateFiles = {
  read: () => Promise.resolve(null),
  write: () => Promise.resolve(),
  remove: () => Promise.resolve(),
  append: () => Promise.resolve(),
  lines: () => Promise.resolve([]),
};

describe("what the router knows of the cluster", () => {
  let time: ManualTime;
  let writer: MemoryDcsHandle;
  let reader: MemoryDcsHandle;
  let feed: ClusterFeed;
  let serving: Map<NodeName, Serving>;
  let asked: NodeName[];
  let tell: Map<NodeName, (status: LeaderStatus) => void>;
  const ordered = vi.fn();

  /** Lets promises and the store's messages through; the clock stands still. */
  const settle = async (): Promise<void> => {
    for (let turn = 0; turn < 20; turn += 1) await systemTimers.sleep(0);
  };
  const pass = async (ms: number): Promise<void> => {
    time.pass(ms);
    await settle();
  };
  const put = async (key: string, value: unknown): Promise<void> => {
    const text = value === null ? null : encodeRecord(value);
    await writer.transact({ checks: [], writes: [{ key, value: text }] }, 1000);
    await settle();
  };
  const primary = (): string | null => feed.current().primary?.node ?? null;

  beforeEach(async () => {
    time = new ManualTime("2026-11-21T14:00:00.000Z" as WallTime);
    const store = createMemoryDcs();
    writer = store.connect();
    reader = store.connect();
    serving = new Map();
    asked = [];
    tell = new Map();
    ordered.mockClear();
    const agents: Agents = {
      serving: (node) => {
        asked.push(node.name);
        return Promise.resolve(serving.get(node.name) ?? null);
      },
      follow: (node, onStatus) => {
        tell.set(node.name, onStatus);
        return () => tell.delete(node.name);
      },
    };
    const log = (): void => undefined;
    const tokens = await TokenMemory.open(files, log);
    feed = new ClusterFeed({
      openAfterArchiveMs: () => undefined,
      dcs: reader,
      agents,
      tokens,
      clock: time,
      timers: time,
      log,
      onOrders: ordered,
    });
    await put(keys.node(db1), nodeRecord("db1", primarySql()));
    await put(keys.node(db2), nodeRecord("db2", standbySql()));
    await put(keys.lease, lease({}));
    feed.open();
    await settle();
    return () => feed.close();
  });

  it("is told to each listener once for each change, and not for a renewal", async () => {
    const heard = vi.fn();
    feed.subscribe(heard);
    expect(primary()).toBe("db1");
    await put(keys.lease, lease({ renewal: 2 }));
    await pass(300);
    expect(heard).not.toHaveBeenCalled();
    await put(keys.lease, lease({ state: "released", renewal: 3 }));
    expect(heard).toHaveBeenCalledOnce();
    expect(primary()).toBeNull();
  });

  it("follows the lease to the next holder, who must serve first", async () => {
    await put(keys.lease, lease({ holder: db2, token: token(6), state: "elected" }));
    expect([primary(), feed.current().highestToken]).toEqual([null, 6]);
    await put(keys.lease, lease({ holder: db2, token: token(6), timeline: timeline(8) }));
    expect(feed.current().primary).toMatchObject({ node: "db2", token: 6, timeline: 8 });
  });

  it("does not go back to a lower token", async () => {
    await put(keys.lease, lease({ holder: db2, token: token(6) }));
    await put(keys.lease, lease({ token: token(5), renewal: 9 }));
    expect([primary(), feed.current().highestToken]).toEqual([null, 6]);
  });

  it("lets a primary go that is not renewed and says nothing", async () => {
    await pass(4900);
    expect(primary()).toBe("db1");
    await pass(51);
    expect([primary(), feed.primaryUntil()]).toEqual([null, null]);
  });

  it("asks a leader itself that is not seen to renew, and believes its own deadline (failsafe)", async () => {
    await pass(2400);
    expect(asked).toEqual([]);
    serving.set(db1, { token: token(5), timeline: timeline(7), forMs: 4000 });
    for (let round = 0; round < 40; round += 1) await pass(250);
    expect([primary(), asked.includes(db1)]).toEqual(["db1", true]);
    serving.delete(db1);
    for (let round = 0; round < 20; round += 1) await pass(250);
    expect(primary()).toBeNull();
  });

  it("does not believe that anybody has longer than a lease is long", async () => {
    serving.set(db1, { token: token(5), timeline: timeline(7), forMs: 3_600_000 });
    await pass(2600);
    serving.delete(db1);
    for (let round = 0; round < 24; round += 1) await pass(250);
    expect(primary()).toBeNull();
  });

  it("hears of a new leader from the agents when the store is silent", async () => {
    reader.setNetwork("down");
    await settle();
    serving.set(db2, { token: token(6), timeline: timeline(8), forMs: 4000 });
    tell.get(db2)?.({ leader: "db2", token: 6 });
    await settle();
    expect(feed.current().primary).toMatchObject({ node: "db2", token: 6 });
  });

  it("takes nobody's word for another: only who serves itself is believed", async () => {
    tell.get(db1)?.({ leader: "db2", token: 6 });
    await settle();
    expect([asked, primary(), feed.current().highestToken]).toEqual([["db2"], "db1", 5]);
  });

  it("tells of orders once each time they change, and of detached nodes", async () => {
    await put(keys.routing, { detached: ["db2"], draining: ["db2"], pausedUntil: null });
    await pass(300);
    expect([...feed.current().detached]).toEqual(["db2"]);
    expect(ordered.mock.calls.at(-1)?.[0]).toMatchObject({ detached: ["db2"], draining: ["db2"] });
    await pass(1000);
    expect(ordered).toHaveBeenCalledOnce();
    await put(keys.routing, null);
    await pass(300);
    expect(feed.current().detached.size).toBe(0);
  });

  it("one listener that fails does not keep the next from hearing", async () => {
    const heard = vi.fn();
    feed.subscribe(() => {
      throw new Error("a defect");
    });
    feed.subscribe(heard);
    await put(keys.lease, lease({ state: "released", renewal: 2 }));
    expect(heard).toHaveBeenCalledOnce();
  });

  it("follows the agents that there are records of, and no others", async () => {
    expect([...tell.keys()].sort()).toEqual(["db1", "db2"]);
    await put(keys.node(db2), null);
    await pass(300);
    expect([...tell.keys()]).toEqual(["db1"]);
  });
});
