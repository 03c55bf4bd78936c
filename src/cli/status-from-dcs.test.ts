import { describe, expect, it } from "vitest";
import { leaderStatus, memoryIo, nodePicture, nodeStatus } from "../../test/support/cli.ts";
import type { NodeStatus } from "../cluster/status.ts";
import type { Dcs } from "../dcs/dcs.ts";
import { encodeRecord, keys } from "../dcs/layout.ts";
import { createMemoryDcs } from "../dcs/memory/memory-dcs.ts";
import { statusFromDcs } from "./status-from-dcs.ts";

function lease(renewal: number): string {
  const never = { lsn: null, release: null };
  const place = { timeline: 7, reservedTimeline: 7 };
  return encodeRecord({
    holder: "db1",
    token: 9,
    renewal,
    ttlMs: 5000,
    state: "serving",
    ...place,
    ...never,
  });
}

function record(node: NodeStatus, sequence: number): string {
  return encodeRecord({ ...nodePicture(node).record, sequence });
}

async function write(dcs: Dcs, values: Readonly<Record<string, string>>): Promise<void> {
  const writes = Object.entries(values).map(([key, value]) => ({ key, value }));
  const result = await dcs.transact({ checks: [], writes }, 1000);
  expect(result.outcome).toBe("committed");
}

/** The status when these values are written between the two looks. */
async function statusWith(
  change: Readonly<Record<string, string>>,
): Promise<Awaited<ReturnType<typeof statusFromDcs>>> {
  const dcs = createMemoryDcs().connect();
  await write(dcs, {
    [keys.lease]: lease(1),
    "pgherd/nodes/db1": record(leaderStatus("db1"), 1),
    "pgherd/nodes/db2": record(nodeStatus("db2"), 1),
    [keys.config]: JSON.stringify({ ttl: "3s", pause: true }),
  });
  const waited: number[] = [];
  const { io } = memoryIo();
  const timers = {
    ...io.timers,
    sleep: async (ms: number): Promise<void> => {
      waited.push(ms);
      if (Object.keys(change).length > 0) await write(dcs, change);
    },
  };
  const status = await statusFromDcs(dcs, "shop", { clock: io.clock, timers, interrupted: io.interrupted });
  expect(waited).toEqual([1800]);
  await dcs.close();
  return status;
}

describe("the status from the records alone", () => {
  it("has a leader when the lease was renewed between two looks", async () => {
    const status = await statusWith({
      [keys.lease]: lease(2),
      "pgherd/nodes/db1": record(leaderStatus("db1"), 2),
    });
    expect(status).toMatchObject({ cluster: "shop", leader: "db1", health: "degraded", paused: true });
    expect(status.nodes.map((node) => node.state)).toEqual(["running", "unknown"]);
  });

  it("has no leader when nobody renews: the records alone prove nothing", async () => {
    const status = await statusWith({});
    expect(status).toMatchObject({ leader: null, health: "down" });
    expect(status.nodes.map((node) => node.state)).toEqual(["unknown", "unknown"]);
  });
});
