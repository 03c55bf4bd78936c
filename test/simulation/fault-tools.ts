import type { FaultPlan } from "./faults.ts";
import type { SimNode } from "./node.ts";
import type { World } from "./world.ts";

/** Ends a fault. */
export type Undo = () => void;
export const nothing: Undo = () => undefined;

/** A host with what runs on it: a node, or the backup server. */
export type Machine = Pick<SimNode, "name" | "recordKey" | "postgres" | "agent" | "start">;

/** What a fault does to its target; the returned function ends it. */
export type Fault = (world: World, node: SimNode, plan: FaultPlan) => Undo;

/** Cuts a node off from places: both ways, or only what goes from it or to it. */
export function isolate(
  world: World,
  node: Machine,
  places: readonly string[],
  how: "both" | "from" | "to",
): Undo {
  const { network } = world;
  const links = places
    .filter((place) => place !== node.name)
    .flatMap((place): [string, string][] => [
      ...(how !== "to" ? [[node.name, place] as [string, string]] : []),
      ...(how !== "from" ? [[place, node.name] as [string, string]] : []),
    ]);
  for (const [from, to] of links) network.block(from, to);
  return () => {
    for (const [from, to] of links.splice(0)) network.unblock(from, to);
  };
}

/** A second number from the one drawn. */
export const second = (detail: number): number => (detail * 997) % 1;

const directions = ["both", "both", "from", "to"] as const;
/** Which way a partition goes, from a number in [0, 1). */
export const way = (detail: number): "both" | "from" | "to" => directions[Math.floor(detail * 4)] ?? "both";
/** The names of all nodes and of the backup server. */
export const otherNodes = (world: World): string[] => world.machines.map(({ name }) => name);
/** Where the clients are. */
export const clientPlaces = (world: World): string[] =>
  world.traits.clients.map((_client, index) => `c${index}`);

/** Makes everything that goes one way late. */
export function late(world: World, from: string, to: string, ms: number): Undo {
  world.network.hold(from, to, ms);
  return () => world.network.hold(from, to, 0);
}

/** Asks after each change of the store and each promotion, until it answers true or the fault ends. */
export function untilTrue(world: World, look: () => boolean): Undo {
  let over = false;
  let asked = false;
  const again = (): void => {
    asked = false;
    if (!over && look()) end();
  };
  const ask = (): void => {
    if (over || asked) return;
    asked = true;
    world.engine.after(1, again);
  };
  const stops = [world.store.data.onChange(ask), world.checkers.onWritable(ask)];
  const end = (): void => {
    over = true;
    for (const stop of stops) stop();
  };
  ask();
  return end;
}

/** Stops a process for a while. */
export function frozen(process: { freeze(): void; resume(): void } | null): Undo {
  process?.freeze();
  return () => process?.resume();
}

/** Turns a host off; it boots again when the fault ends, or without its data (`wipe`). */
export function powerOff(world: World, node: Machine, plan: FaultPlan, wipe: boolean): Undo {
  const { postgres } = node;
  const { host } = postgres;
  if (!host.up) return nothing;
  postgres.losePower(plan.detail);
  host.powerOff();
  if (wipe) {
    postgres.data = null;
    postgres.retired = [];
    // A receiver keeps what it promised beside its WAL: both are lost together.
    if (plan.detail < 0.5 || node === world.archive) host.files.clear();
  }
  return () => boot(world, node);
}

/** Turns a host on again, if it is off. */
export function boot(world: World, node: Machine): void {
  const { host } = node.postgres;
  if (host.up) return;
  host.boot();
  world.engine.after(world.rng.between(500, 3000), () => node.start());
}

/** Something asked of the node's agent by an operator; a refusal is an answer too. */
export function ask(
  node: SimNode,
  request: (daemon: NonNullable<SimNode["daemon"]>) => Promise<unknown>,
): Undo {
  const { daemon, agent } = node;
  if (daemon !== null) agent?.deliver(() => void request(daemon).catch(() => undefined));
  return nothing;
}

/** One of the changes an operator may make. */
export const settingChanges = (world: World, detail: number): Readonly<Record<string, unknown>> => {
  if (world.traits.scenario === "settings") {
    const whoCounts = world.traits.changes.filter(
      (change) => !("suspect_after" in change || "sync_order" in change),
    );
    return whoCounts[Math.floor(detail * whoCounts.length)] ?? {};
  }
  const choices: readonly Readonly<Record<string, unknown>>[] = [
    { ttl: "2s" },
    { ttl: "3s" },
    { ttl: "8s" },
    { ttl: `${world.traits.ttlMs}ms` },
    ...world.traits.changes,
  ];
  return choices[Math.floor(detail * choices.length)] ?? {};
};
