import { expect, test } from "vitest";
import { ManualTime } from "../../test/support/manual-time.ts";
import type { NodeName } from "../values/names.ts";
import type { WallTime } from "../values/time.ts";
import { NodePlaces } from "./limits.ts";
import { ClusterRoutes } from "./routes.ts";
import type { Topology } from "./topology.ts";

const nobody: Topology = {
  ...{ revision: 0, primary: null, highestToken: null, standbys: [], gate: null },
  detached: new Set(),
};
const db1 = "db1" as NodeName;
const pause = { leaderMs: 20, ms: 400 };

function world() {
  const time = new ManualTime("2026-01-01T00:00:00.000Z" as WallTime);
  let changed = (): void => undefined;
  const feed = {
    current: () => nobody,
    subscribe: (listener: (now: Topology, before: Topology) => void) => {
      changed = () => listener(nobody, nobody);
      return () => undefined;
    },
  };
  const limits = { clients: 10, perUser: null, perDatabase: null, perNode: null };
  const places = new NodePlaces(() => ({ ...limits, queue: 0, queueTimeoutMs: 0, starting: 10 }), time);
  const routes = new ClusterRoutes({ feed, places, location: null, clock: time, timers: time });
  const over: string[] = [];
  const wait = (who: string, node = db1, signal = new AbortController().signal): void =>
    void routes.pause(node, pause, signal).then(() => over.push(who));
  /** Lets what was resolved be seen. */
  const seen = async (): Promise<string[]> => {
    for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
    return over;
  };
  return { time, routes, wait, seen, change: () => changed() };
}

test("of those who wait for a node one tries it soon, and whoever comes next after him", async () => {
  const { time, wait, seen } = world();
  wait("first");
  wait("second");
  wait("other node", "db2" as NodeName);
  time.pass(20);
  expect(await seen()).toEqual(["first", "other node"]);
  wait("first again");
  time.pass(20);
  expect(await seen()).toEqual(["first", "other node", "first again"]);
  time.pass(400);
  expect(await seen()).toContain("second");
});

test("nobody waits on when somebody has reached the node, or the cluster has changed", async () => {
  const { routes, wait, seen, change, time } = world();
  wait("first");
  wait("second");
  routes.reached();
  expect(await seen()).toEqual(["first", "second"]);
  wait("third");
  wait("fourth");
  change();
  expect(await seen()).toHaveLength(4);
  expect(time.waiting).toBe(0);
});

test("who gives up leaves the place of the one who tries", async () => {
  const { time, wait, seen } = world();
  const gone = new AbortController();
  wait("gone", db1, gone.signal);
  gone.abort();
  await seen();
  wait("next");
  time.pass(20);
  expect(await seen()).toEqual(["gone", "next"]);
});
