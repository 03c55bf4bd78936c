import { beforeEach, describe, expect, it } from "vitest";
import type { NodeRecord } from "../cluster/records.ts";
import type { SynchronousState } from "../postgres/instance.ts";
import { lsnFromBytes } from "../values/lsn.ts";
import { memberOf, replicationName, type FencingToken, type Member, type NodeName } from "../values/names.ts";
import type { Instant } from "../values/time.ts";
import type { AgentContext } from "./context.ts";
import type { Pulse } from "./peers.ts";
import { SyncStandbys } from "./sync-standbys.ts";

const token = 4 as FencingToken;
const db2 = "db2" as NodeName;
const member = memberOf(db2, "1");
const tags = { nosync: false, nofailover: false, failoverPriority: 1, free: {} };

describe("which standbys count", () => {
  let now: number;
  let pulse: Pulse | null;
  let asked: number;
  let standbys: SyncStandbys;

  beforeEach(() => {
    now = 1000;
    pulse = null;
    asked = 0;
    const record = { name: db2, incarnation: "1", tags } as unknown as NodeRecord;
    const context = {
      options: { node: "db1" },
      clock: { now: () => now as Instant },
      mirror: { state: { receivers: new Map(), nodes: new Map([[db2, { value: record, version: 1 }]]) } },
      peers: {
        pulse: () => {
          asked += 1;
          return Promise.resolve(pulse);
        },
      },
      timers: { sleep: () => Promise.resolve() },
    } as unknown as AgentContext;
    standbys = new SyncStandbys(context);
  });

  /** What a look at PostgreSQL shows: connected under its proven name up to `flushed`, or not at all. */
  function look(flushed: number | null, parts: Partial<SynchronousState> = {}): SynchronousState {
    const connection = {
      applicationName: replicationName(member, token),
      streaming: true,
      flushLsn: lsnFromBytes(BigInt(flushed ?? 0)),
    };
    return {
      flushedLsn: lsnFromBytes(100n),
      waiting: 0,
      standbys: flushed === null ? [] : [connection],
      ...parts,
    };
  }

  function usable(state: SynchronousState, expected: readonly Member[] = []): boolean | undefined {
    return standbys.update(token, new Set(expected), state)[0]?.usable;
  }

  it("one that connects under its proven name counts, one under any other name does not (S5)", () => {
    expect(usable(look(100))).toBe(true);
    const plain = [{ applicationName: "db2", streaming: true, flushLsn: lsnFromBytes(100n) }];
    standbys.update((token + 1) as FencingToken, new Set(), look(null, { standbys: plain }));
    expect(usable(look(null, { standbys: plain }))).toBe(false);
  });

  it("one that was recorded when the token began has a moment to connect, another has not", () => {
    expect(usable(look(null))).toBe(false);
    expect(usable(look(null), [member])).toBe(true);
    now += 1600;
    expect(usable(look(null), [member])).toBe(false);
  });

  it("one whose connection is gone counts no more after a moment", () => {
    usable(look(100));
    expect(usable(look(null))).toBe(true);
    now += 450;
    expect(usable(look(null))).toBe(false);
  });

  it("one that was cut off for a change of W has longer to come back", () => {
    usable(look(100));
    standbys.expectReconnects();
    usable(look(null));
    now += 1000;
    expect(usable(look(null))).toBe(true);
    now += 600;
    expect(usable(look(null))).toBe(false);
  });

  it("one that holds commits up is asked for, and counts no more when nobody answers, until it shows progress", async () => {
    const held = look(50, { waiting: 3 });
    expect(usable(held)).toBe(true);
    now += 400;
    expect(usable(held)).toBe(true);
    await Promise.resolve();
    await Promise.resolve();
    expect(asked).toBe(1);
    expect(usable(held)).toBe(false);
    expect(usable(look(50))).toBe(false);
    expect(usable(look(60))).toBe(true);
  });

  it("one that is slow and lives is waited for, but not for ever", async () => {
    pulse = { node: db2, postgres: true };
    const held = look(50, { waiting: 3 });
    usable(held);
    now += 400;
    usable(held);
    for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
    expect(usable(held)).toBe(true);
    now += 5000;
    expect(usable(held)).toBe(false);
  });
});
