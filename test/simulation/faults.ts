import { archiveKinds, kinds, momentKinds, odds, returnKinds, type FaultKind } from "./fault-kinds.ts";
import { ask, nothing, type Undo } from "./fault-tools.ts";
import type { SimNode } from "./node.ts";
import { Rng } from "./rng.ts";
import type { WorldTraits } from "./settings.ts";
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
    "late answers",
    "late requests",
    "late requests, standby killed",
    "split",
    "store away",
    "store loses answers",
    "freeze agent",
  ],
  crashes: [
    "power loss",
    "kill postgres",
    "kill postmaster",
    "lost disk",
    "kill agent",
    "cut off",
    "reinit",
    "two hosts at once",
    "killed one after the other",
    "data put back",
    "disk stall",
    "bad links",
  ],
  promises: [
    "partition from nodes",
    "partition from store and nodes",
    "cut off",
    "split",
    "freeze host",
    "lost for a moment, one hears late",
    "late answers",
    "killed after a promise",
    "bad links",
  ],
  changes: [
    "change settings",
    "late requests, standby killed",
    "shorter ttl, answers lost",
    "kill receiver",
    "partition from nodes",
    "partition from store",
    "kill agent",
    "power loss",
    "bad links",
  ],
  settings: ["change settings", "kill receiver", "restart", "bad links"],
  returns: ["lost, then back for one", "the next is lost before it tells", "bad links"],
  records: ["lost while it tells", "kill receiver", "bad links"],
  archive: [
    ...archiveKinds,
    "lost, then back for one",
    "the next is lost before it tells",
    "power loss",
    "kill postgres",
    "lost disk",
    "cut off",
    "partition from store",
    "partition from nodes",
    "two hosts at once",
    "killed one after the other",
    "split",
    "kill agent",
    "change settings",
  ],
  moments: [...momentKinds, "bad links"],
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
  const names = scenarios[traits.calm ? "calm" : (traits.scenario ?? "")] ?? everyKind(traits);
  // Each life has its own favourites: some faults come often, many not at all.
  const few = ["returns", "records", "moments"].includes(traits.scenario ?? "");
  const weights = names.map(
    (kind) => odds[kind][0] * (rng.chance(few ? 1 : 0.5) ? rng.magnitude(0.2, 5) : 0.02),
  );
  // Compounds that overlap spoil each other.
  const count = (traits.scenario === null ? 3 : few ? 5 : 10) + rng.below(traits.calm ? 12 : few ? 6 : 22);
  const plans: FaultPlan[] = [];
  const length = traits.lengthMs - 40_000;
  // Some come in bursts: one right after the other is worse than both apart.
  let at = 0;
  for (let index = 0; index < count; index += 1) {
    const kind = weighted(rng, names, weights);
    const [, low, high] = odds[kind];
    const limit = traits.calm ? Math.min(high, calmLimits[kind] ?? 0) : high;
    // What lasts about as long as the program waits is worse than what is short or long.
    const near = rng.pick([traits.suspectMs, traits.ttlMs]) * rng.between(0.8, 1.7);
    const ms = limit <= low ? limit : rng.magnitude(low, limit);
    at += rng.chance(0.4) ? rng.magnitude(1, 3000) : (rng.next() * 2 * length) / count;
    plans.push({
      at,
      kind,
      target: rng.chance(returnKinds.includes(kind) || momentKinds.includes(kind) ? 1 : 0.6)
        ? "leader"
        : rng.chance(0.5)
          ? "standby"
          : rng.below(traits.nodes),
      ms: !traits.calm && limit > low && near > low && rng.chance(0.3) ? Math.min(near, limit) : ms,
      detail: rng.next(),
    });
  }
  return plans;
}

function everyKind({ earlier, archive }: WorldTraits): FaultKind[] {
  const left = new Set([
    ...momentKinds,
    ...(earlier ? returnKinds : []),
    ...(archive === null ? archiveKinds : []),
  ]);
  return (Object.keys(odds) as FaultKind[]).filter((kind) => !left.has(kind));
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
    for (const { postgres } of this.#world.machines) postgres.host.disk.heal();
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
