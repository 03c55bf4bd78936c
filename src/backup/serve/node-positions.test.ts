import { expect, it } from "vitest";
import { nodeRecord } from "../../../test/support/agent-pictures.ts";
import type { NodeRecord } from "../../cluster/records.ts";
import type { ClusterState } from "../../cluster/state.ts";
import { systemClock } from "../../system/clock.ts";
import type { Lsn } from "../../values/lsn.ts";
import type { NodeName, Timeline } from "../../values/names.ts";
import type { WallTime } from "../../values/time.ts";
import { NodePositions } from "./node-positions.ts";

const day = 24 * 60 * 60_000;
const begin = Date.parse("2026-11-01T00:00:00.000Z");
const wallAt = (ms: number): WallTime => new Date(begin + ms).toISOString() as WallTime;

/** The records of these nodes, each written so long after the beginning. */
function cluster(nodes: Readonly<Record<string, { lsn: bigint | null; writtenMs: number }>>): ClusterState {
  const records = Object.entries(nodes).map(
    ([name, { lsn, writtenMs }]): [NodeName, { value: NodeRecord }] => {
      const over = { timeline: 2 as Timeline, lsn: lsn as Lsn | null, writtenAt: wallAt(writtenMs) };
      return [name as NodeName, { value: { ...nodeRecord(name, null), ...over } }];
    },
  );
  return { nodes: new Map(records) } as unknown as ClusterState;
}

it("knows where each node ends, also of one whose PostgreSQL is down, until it was away for days or is removed", () => {
  let wallMs = 0;
  const positions = new NodePositions({ ...systemClock, wall: () => wallAt(wallMs) });
  const at = (lsn: bigint): object => ({ timeline: 2, lsn });
  // The store has not answered: nobody can say what they lack.
  expect(positions.now()).toEqual([{ timeline: 1, lsn: 0n }]);
  positions.take(null);
  expect(positions.now()).toEqual([{ timeline: 1, lsn: 0n }]);
  positions.take(cluster({ db1: { lsn: 700n, writtenMs: 0 }, db2: { lsn: 500n, writtenMs: 0 } }));
  expect(positions.now()).toEqual([at(700n), at(500n)]);
  positions.take(cluster({ db1: { lsn: 900n, writtenMs: day }, db2: { lsn: null, writtenMs: day } }));
  expect(positions.now()).toEqual([at(900n), at(500n)]);
  wallMs = 3.5 * day;
  expect(positions.now()).toEqual([at(900n)]);
  positions.take(cluster({ db2: { lsn: null, writtenMs: wallMs } }));
  expect(positions.now()).toEqual([]);
});
