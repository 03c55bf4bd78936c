import { archiveFaults } from "./fault-archive.ts";
import { compounds } from "./fault-compounds.ts";
import { moments } from "./fault-moments.ts";
import { returns } from "./fault-returns.ts";
import {
  ask,
  clientPlaces,
  frozen,
  isolate,
  late,
  nothing,
  otherNodes,
  powerOff,
  settingChanges,
  way,
  type Fault,
} from "./fault-tools.ts";
import { storePlace } from "./store.ts";

/** What each kind does. */
export const kinds = {
  "kill agent": (_world, node) => {
    node.agent?.kill();
    return nothing;
  },
  "freeze agent": (_world, node) => frozen(node.agent),
  "kill guard": (_world, node) => {
    node.guards.guard?.process.kill();
    return nothing;
  },
  "freeze guard": (_world, node) => frozen(node.guards.guard?.process ?? null),
  "freeze agent, kill guard": (_world, node) => {
    const undo = frozen(node.agent);
    node.guards.guard?.process.kill();
    return undo;
  },
  "kill postmaster": (_world, node) => {
    node.postgres.killPostmaster();
    return nothing;
  },
  "kill postgres": (_world, node) => {
    node.postgres.killAll();
    return nothing;
  },
  "freeze postgres": (_world, node) => {
    const processes = node.postgres.freeze();
    return () => {
      for (const process of processes) process.resume();
    };
  },
  "kill receiver": (_world, node) => {
    node.postgres.server?.receiver?.close();
    return nothing;
  },
  "power loss": (world, node, plan) => powerOff(world, node, plan, false),
  "lost disk": (world, node, plan) => powerOff(world, node, plan, true),
  "freeze host": (_world, node) => node.postgres.host.freeze(false),
  "suspend host": (_world, node) => node.postgres.host.freeze(true),
  "step clock": (_world, node, plan) => {
    node.postgres.host.stepWall((plan.detail - 0.5) * 7_200_000);
    return nothing;
  },
  "partition from store": (world, node, plan) => isolate(world, node, [storePlace], way(plan.detail)),
  "partition from nodes": (world, node, plan) => isolate(world, node, otherNodes(world), way(plan.detail)),
  "partition from store and nodes": (world, node, plan) =>
    isolate(world, node, [storePlace, ...otherNodes(world)], way(plan.detail)),
  "partition from clients": (world, node, plan) =>
    isolate(world, node, clientPlaces(world), way(plan.detail)),
  "cut off": (world, node) =>
    isolate(world, node, [storePlace, ...otherNodes(world), ...clientPlaces(world)], "both"),
  "bad links": (world, node, plan) => {
    const places = [storePlace, ...otherNodes(world)];
    const set = (loss: number, slowdown: number): void => {
      for (const place of places) {
        world.network.disturb(node.name, place, loss, slowdown);
        world.network.disturb(place, node.name, loss, slowdown);
      }
    };
    set(plan.detail * 0.3, 1 + plan.detail * 60);
    return () => set(0, 1);
  },
  "disk stall": (_world, node, plan) => {
    node.postgres.host.disk.stall(plan.ms);
    return nothing;
  },
  "full disk": (_world, node) => {
    node.postgres.host.disk.full = true;
    return () => (node.postgres.host.disk.full = false);
  },
  "late answers": (world, node, plan) => late(world, storePlace, node.name, 100 * 25 ** plan.detail),
  "late requests": (world, node, plan) => late(world, node.name, storePlace, 300 * 30 ** plan.detail),
  "store away": (world) => {
    world.store.setAvailable(false);
    return () => world.store.setAvailable(true);
  },
  "store forgets changes": (world) => {
    world.store.data.compact(world.store.data.revision);
    return nothing;
  },
  "store loses answers": (world, _node, plan) => {
    world.store.lostAnswers = 0.05 + plan.detail * 0.4;
    return () => (world.store.lostAnswers = world.traits.storeLostAnswers);
  },
  switchover: (_world, node) =>
    ask(node, ({ service }) =>
      service.move(
        { kind: "switchover", leader: null, candidate: null, scheduledAt: null, acceptLoss: false },
        60_000,
      ),
    ),
  restart: (_world, node) =>
    ask(node, ({ service }) => service.restart({ ifPending: false, role: null, timeoutMs: 60_000 })),
  reinit: (_world, node) => ask(node, ({ service }) => service.reinit({ fromLeader: true, dryRun: false })),
  "change settings": (world, node, plan) =>
    ask(node, ({ service }) =>
      service.patchSettings(settingChanges(world, plan.detail), { dryRun: false, version: null }),
    ),
  pause: (_world, node) => {
    ask(node, ({ service }) => service.patchSettings({ pause: true }, { dryRun: false, version: null }));
    return nothing;
  },
  "stop agent": (_world, node) => {
    const { agent } = node;
    ask(node, (daemon) => daemon.end("stop").then(() => agent?.kill()));
    return nothing;
  },
  "start by hand": (_world, node) => {
    const { postgres } = node;
    const { data } = postgres;
    if (postgres.dead && data !== null && postgres.host.up)
      postgres.start({ standby: data.standbySignal, ours: false });
    return nothing;
  },
  ...compounds,
  ...returns,
  ...archiveFaults,
  ...moments,
} satisfies Record<string, Fault>;

export type FaultKind = keyof typeof kinds;

/** How often each is drawn, and how long it lasts at least and at most, in milliseconds. */
export const odds: Readonly<Record<FaultKind, readonly [number, number, number]>> = {
  "kill agent": [3, 0, 0],
  "freeze agent": [5, 200, 25_000],
  "kill guard": [2, 0, 0],
  "freeze guard": [1, 200, 20_000],
  "freeze agent, kill guard": [1, 200, 20_000],
  "kill postmaster": [4, 0, 0],
  "kill postgres": [4, 0, 0],
  "freeze postgres": [4, 200, 25_000],
  "kill receiver": [2, 0, 0],
  "power loss": [6, 1000, 30_000],
  "lost disk": [1.5, 1000, 15_000],
  "freeze host": [4, 300, 25_000],
  "suspend host": [2, 300, 25_000],
  "step clock": [1, 0, 0],
  "partition from store": [5, 300, 25_000],
  "partition from nodes": [4, 300, 25_000],
  "partition from store and nodes": [5, 300, 25_000],
  "partition from clients": [1, 300, 10_000],
  "cut off": [4, 300, 25_000],
  "bad links": [3, 1000, 30_000],
  "disk stall": [3, 200, 15_000],
  "full disk": [1, 1000, 15_000],
  "late answers": [2, 1000, 15_000],
  "late requests": [1, 1000, 15_000],
  "late requests, standby killed": [1, 1000, 15_000],
  "lost for a moment, one hears late": [2, 2000, 12_000],
  split: [3, 300, 25_000],
  "two hosts at once": [3, 2000, 30_000],
  "killed one after the other": [3, 3000, 20_000],
  "killed after a promise": [1.5, 3000, 20_000],
  "shorter ttl, answers lost": [1.5, 1000, 15_000],
  "data put back": [1.5, 1000, 8000],
  "store away": [3, 200, 15_000],
  "store forgets changes": [1, 0, 0],
  "store loses answers": [2, 1000, 20_000],
  switchover: [4, 0, 0],
  restart: [2, 0, 0],
  reinit: [2, 0, 0],
  "change settings": [4, 0, 0],
  pause: [0.5, 3000, 15_000],
  "stop agent": [1.5, 0, 0],
  "start by hand": [1, 0, 0],
  "lost, then back for one": [3, 4000, 15_000],
  "the next is lost before it tells": [2, 9000, 25_000],
  "lost while it tells": [1.5, 2500, 8000],
  "kill archive": [2, 0, 0],
  "freeze archive": [3, 200, 25_000],
  "archive loses store": [2, 300, 25_000],
  "archive loses nodes": [2, 300, 25_000],
  "archive loses leader": [2, 300, 25_000],
  "archive loses power": [3, 1000, 15_000],
  "archive loses disk": [1, 1000, 15_000],
  "archive disk stalls": [1, 200, 15_000],
  "renewed, answered late": [2, 8000, 15_000],
  "shorter ttl, unanswered": [2, 8000, 15_000],
  "two instead of one": [2, 3000, 12_000],
  "lost as it is promoted": [2, 8000, 20_000],
  "promised, then anew": [2, 6000, 12_000],
};

/** Kinds that came later: a life as it was drawn before knows none of them. */
export const returnKinds = Object.keys(returns) as FaultKind[];
/** Only where there is a backup server. */
export const archiveKinds = Object.keys(archiveFaults) as FaultKind[];
/** Only in a scenario that names them. */
export const momentKinds = Object.keys(moments) as FaultKind[];
