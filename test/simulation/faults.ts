import type { SimNode } from "./node.ts";
import { Rng } from "./rng.ts";
import type { WorldTraits } from "./settings.ts";
import { storePlace } from "./store.ts";
import type { World } from "./world.ts";

/** One thing that goes wrong, as drawn: when, what, to whom, for how long, and a number for its own details. */
export interface FaultPlan {
  /** Milliseconds after the cluster is whole for the first time. */
  readonly at: number;
  readonly kind: FaultKind;
  /** The leader of that moment, a standby, or any node by number. */
  readonly target: "leader" | "standby" | number;
  readonly ms: number;
  readonly detail: number;
}

type Undo = () => void;
const nothing: Undo = () => undefined;

/** What a fault does to its target; the returned function ends it. */
type Fault = (world: World, node: SimNode, plan: FaultPlan) => Undo;

function isolate(world: World, node: SimNode, places: readonly string[], how: "both" | "from" | "to"): Undo {
  const { network } = world;
  const links = places
    .filter((place) => place !== node.name)
    .flatMap((place): [string, string][] => [
      ...(how !== "to" ? [[node.name, place] as [string, string]] : []),
      ...(how !== "from" ? [[place, node.name] as [string, string]] : []),
    ]);
  for (const [from, to] of links) network.block(from, to);
  return () => {
    for (const [from, to] of links) network.unblock(from, to);
  };
}

const directions = ["both", "both", "from", "to"] as const;
const way = (detail: number): "both" | "from" | "to" => directions[Math.floor(detail * 4)] ?? "both";
const otherNodes = (world: World): string[] => world.nodes.map((node) => node.name);
const clientPlaces = (world: World): string[] => world.traits.clients.map((_client, index) => `c${index}`);

function frozen(process: { freeze(): void; resume(): void } | null): Undo {
  process?.freeze();
  return () => process?.resume();
}

function powerOff(world: World, node: SimNode, plan: FaultPlan, wipe: boolean): Undo {
  const { postgres } = node;
  const { host } = postgres;
  if (!host.up) return nothing;
  postgres.losePower(plan.detail);
  host.powerOff();
  if (wipe) {
    postgres.data = null;
    postgres.retired = [];
    if (plan.detail < 0.5) host.files.clear();
  }
  return () => {
    if (host.up) return;
    host.boot();
    world.engine.after(world.rng.between(500, 3000), () => node.start());
  };
}

/** Something asked of the node's agent by an operator; a refusal is an answer too. */
function ask(node: SimNode, request: (daemon: NonNullable<SimNode["daemon"]>) => Promise<unknown>): Undo {
  const { daemon, agent } = node;
  if (daemon !== null) agent?.deliver(() => void request(daemon).catch(() => undefined));
  return nothing;
}

const settingChanges = (world: World, detail: number): Readonly<Record<string, unknown>> => {
  const choices: readonly Readonly<Record<string, unknown>>[] = [
    { ttl: "2s" },
    { ttl: "3s" },
    { ttl: "8s" },
    { ttl: `${world.traits.ttlMs}ms` },
    ...world.traits.changes,
  ];
  return choices[Math.floor(detail * choices.length)] ?? {};
};

const kinds = {
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
  "store away": (world) => {
    world.store.setAvailable(false);
    return () => world.store.setAvailable(true);
  },
  "store forgets changes": (world) => {
    world.store.data.compact(world.store.data.revision);
    return nothing;
  },
  "store loses answers": (world, _node, plan) => {
    const before = world.store.lostAnswers;
    world.store.lostAnswers = 0.05 + plan.detail * 0.4;
    return () => (world.store.lostAnswers = before);
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
} satisfies Record<string, Fault>;

export type FaultKind = keyof typeof kinds;

/** How often each is drawn, and how long it lasts at least and at most, in milliseconds. */
const odds: Readonly<Record<FaultKind, readonly [number, number, number]>> = {
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
};

/** What a calm life may suffer, and for how long at most: the stated tolerance. */
const calmLimits: Partial<Record<FaultKind, number>> = {
  "freeze agent": 1000,
  "kill agent": 0,
  "freeze guard": 500,
  "bad links": 5000,
  "disk stall": 1500,
  "store away": 1500,
  "step clock": 0,
  "partition from store": 1500,
  "kill receiver": 0,
  "store forgets changes": 0,
};

/** Lives with faults of one sort; without a scenario every sort may come. */
const scenarios: Readonly<Record<string, readonly FaultKind[]>> = {
  calm: Object.keys(calmLimits) as FaultKind[],
  freezes: [
    "freeze agent",
    "freeze postgres",
    "freeze host",
    "suspend host",
    "freeze agent, kill guard",
    "kill agent",
  ],
  partitions: [
    "partition from store",
    "partition from nodes",
    "partition from store and nodes",
    "cut off",
    "bad links",
    "store away",
    "store loses answers",
    "freeze agent",
  ],
  crashes: ["power loss", "kill postgres", "kill postmaster", "lost disk", "kill agent", "cut off", "reinit"],
  changes: [
    "change settings",
    "kill receiver",
    "partition from nodes",
    "partition from store",
    "kill agent",
    "power loss",
    "bad links",
  ],
  moves: [
    "switchover",
    "restart",
    "stop agent",
    "kill postgres",
    "partition from store",
    "freeze agent",
    "power loss",
  ],
};

/** The names of the scenarios. */
export const scenarioNames = Object.keys(scenarios);

export function drawFaults(seed: number, traits: WorldTraits): FaultPlan[] {
  const rng = new Rng(seed, "faults");
  const names =
    scenarios[traits.calm ? "calm" : (traits.scenario ?? "")] ?? (Object.keys(odds) as FaultKind[]);
  // Each life has its own favourites: some faults come often, many not at all.
  const weights = names.map((kind) => odds[kind][0] * (rng.chance(0.5) ? rng.magnitude(0.2, 5) : 0.02));
  const count = (traits.scenario === null ? 3 : 10) + rng.below(traits.calm ? 12 : 22);
  const plans: FaultPlan[] = [];
  const length = traits.lengthMs - 40_000;
  // Some come in bursts: one right after the other is worse than both apart.
  let at = 0;
  for (let index = 0; index < count; index += 1) {
    const kind = weighted(rng, names, weights);
    const [, low, high] = odds[kind];
    const limit = traits.calm ? Math.min(high, calmLimits[kind] ?? 0) : high;
    at += rng.chance(0.4) ? rng.magnitude(1, 3000) : (rng.next() * 2 * length) / count;
    plans.push({
      at,
      kind,
      target: rng.chance(0.6) ? "leader" : rng.chance(0.5) ? "standby" : rng.below(traits.nodes),
      ms: limit <= low ? limit : rng.magnitude(low, limit),
      detail: rng.next(),
    });
  }
  return plans;
}

function weighted(rng: Rng, names: readonly FaultKind[], weights: readonly number[]): FaultKind {
  let left = rng.next() * weights.reduce((sum, weight) => sum + weight, 0);
  for (const [index, weight] of weights.entries()) {
    left -= weight;
    if (left <= 0) return names[index]!;
  }
  return names.at(-1)!;
}

/** Carries faults out at their time, and ends them. */
export class Faults {
  readonly #world: World;
  readonly #open = new Set<Undo>();

  constructor(world: World) {
    this.#world = world;
  }

  /** Plans all of them. @returns when the last one has ended */
  begin(plans: readonly FaultPlan[]): number {
    const { engine } = this.#world;
    let end = 0;
    for (const plan of plans) {
      end = Math.max(end, plan.at + plan.ms);
      engine.after(plan.at, () => this.#strike(plan));
    }
    return engine.now + end + 1;
  }

  #strike(plan: FaultPlan): void {
    const world = this.#world;
    const node = this.#target(plan.target);
    world.trace(
      "fault",
      () => `${plan.kind} on ${node.name}${plan.ms > 0 ? ` for ${Math.round(plan.ms)} ms` : ""}`,
    );
    const undo = kinds[plan.kind](world, node, plan);
    if (plan.kind === "pause") this.#open.add(() => this.#resumeCluster());
    if (undo === nothing) return;
    const once = (): void => {
      if (!this.#open.delete(once)) return;
      world.trace("fault", () => `${plan.kind} on ${node.name} ends`);
      undo();
    };
    this.#open.add(once);
    world.engine.after(plan.ms, once);
  }

  #target(target: FaultPlan["target"]): SimNode {
    const { nodes, checkers } = this.#world;
    const holder = nodes.findIndex((node) => node.name === checkers.lease?.holder);
    const leader = Math.max(0, holder);
    const index = target === "leader" ? leader : target === "standby" ? leader + 1 : target;
    return nodes[index % nodes.length]!;
  }

  /** Ends whatever is still going on. */
  healAll(): void {
    for (const undo of [...this.#open]) undo();
    for (const { postgres } of this.#world.nodes) postgres.host.disk.heal();
    this.#world.store.setAvailable(true);
    this.#resumeCluster();
  }

  /** An operator takes a pause back, on whichever node answers. */
  #resumeCluster(): void {
    const { store, engine, nodes } = this.#world;
    const settings = JSON.parse(store.values.get("config") ?? "{}") as { pause?: boolean };
    if (settings.pause !== true) return;
    const node = nodes.find(({ daemon, agent }) => daemon !== null && agent?.frozen === false);
    if (node !== undefined)
      ask(node, ({ service }) => service.patchSettings({ pause: false }, { dryRun: false, version: null }));
    engine.after(1500, () => this.#resumeCluster());
  }
}
