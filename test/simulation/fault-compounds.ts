import { ask, boot, isolate, late, nothing, powerOff, second, untilTrue, type Fault } from "./fault-tools.ts";
import type { SimNode } from "./node.ts";
import { storePlace } from "./store.ts";
import type { World } from "./world.ts";

const nextTo = (world: World, node: SimNode): SimNode =>
  world.nodes[(world.nodes.indexOf(node) + 1) % world.nodes.length]!;

/**
 * The data directory is put back to an earlier state: a snapshot of the volume. It is older than the last look of the agent,
 * which would not see it otherwise.
 */
function putBack(world: World, node: SimNode, share: number): void {
  const { data, host, highWater } = node.postgres;
  if (data === null || highWater === null) return;
  const records = data.goBack(Math.ceil(300 ** share), highWater);
  node.postgres.putBack = records > 0;
  world.trace("fault", () => `the data of ${host.name} is put back by ${records} records`);
}

/** Faults of several parts, whose moment matters: one of it alone seldom meets the other. */
export const compounds = {
  "late requests, standby killed": (world, node, plan) => {
    const undo = late(world, node.name, storePlace, 300 * 30 ** plan.detail);
    nextTo(world, node).postgres.killAll();
    return undo;
  },
  /** The members lose the leader for about as long as they wait, and one of them sees the others' promises late. */
  "lost for a moment, one hears late": (world, node, plan) => {
    const { engine, traits } = world;
    const undoLate = late(world, storePlace, nextTo(world, node).name, 100 * 15 ** plan.detail);
    const others = world.nodes.map(({ name }) => name);
    const undo = isolate(world, node, others, "both");
    let over = false;
    const once = (): void => {
      if (!over) undo();
      over = true;
    };
    const how = second(plan.detail);
    engine.after(traits.suspectMs * (1 + how) + 400, once);
    // An agent that starts anew in between must know what it promised.
    if (how < 0.4)
      engine.after(traits.suspectMs + 100 + how * 1000, () =>
        nextTo(world, nextTo(world, node)).agent?.kill(),
      );
    return () => {
      once();
      undoLate();
    };
  },
  /** Some nodes see each other, the others see each other and the store; clients see all. */
  split: (world, node, plan) => {
    const bits = Math.floor(second(plan.detail) * 32);
    const apart = world.nodes.filter((each, index) => each === node || ((bits >> index) & 1) === 1);
    const rest = world.nodes.filter((each) => !apart.includes(each)).map(({ name }) => name);
    const undone = apart.map((each) => isolate(world, each, [storePlace, ...rest], "both"));
    return () => undone.forEach((undo) => undo());
  },
  /**
   * One of the two may be back soon, with what it had, with older data, or with none. What takes both down is often felt a
   * moment before: the others hear the first of them late.
   */
  "two hosts at once": (world, node, plan) => {
    const other = nextTo(world, node);
    const how = second(plan.detail);
    const { nodes, engine } = world;
    const third = nodes.filter((each) => each !== node && each !== other);
    const undone = how < 0.7 ? third.map((each) => late(world, node.name, each.name, 600)) : [];
    let ended = false;
    const strike = (): void => {
      if (ended) return;
      const first = powerOff(world, node, plan, false);
      const undo = powerOff(world, other, plan, how < 0.1);
      undone.push(first, undo);
      if (undo === nothing) return;
      if (how > 0.1 && how < 0.35) putBack(world, other, plan.detail);
      engine.after(plan.ms * 0.3 * second(how), undo);
    };
    engine.after(undone.length === 0 ? 0 : 500, strike);
    return () => {
      ended = true;
      for (const undo of undone) undo();
    };
  },
  /** What kills a primary kills its successor too, soon after it takes writes. */
  "killed one after the other": (world, node, plan) => {
    const { checkers } = world;
    let last = checkers.writer;
    const killed: SimNode[] = [];
    let ended = false;
    const kill = (victim: SimNode): void => {
      if (ended) return;
      if (second(plan.detail) < 0.5) victim.postgres.killAll();
      else powerOff(world, victim, plan, false);
      killed.push(victim);
    };
    kill(node);
    const over = untilTrue(world, () => {
      const { writer } = checkers;
      if (writer === last) return killed.length > 2;
      last = writer;
      const victim = world.nodes.find(({ postgres }) => postgres.server === writer);
      if (victim !== undefined) world.engine.after(600 ** plan.detail, () => kill(victim));
      return killed.length > 2;
    });
    return () => {
      ended = true;
      over();
      for (const each of killed) boot(world, each);
    };
  },
  /** The first agent that reports for a new token is killed right after. */
  "killed after a promise": (world, _node, plan) => {
    const seen = new Map<SimNode, string | undefined>();
    return untilTrue(world, () =>
      world.nodes.some((node) => {
        const record = world.store.values.get(`pgherd/nodes/${node.name}`);
        const before = seen.get(node);
        seen.set(node, record);
        if (record === before || before === undefined || record?.includes('"ballot":{') !== true)
          return false;
        if (before.includes('"ballot":{')) return false;
        world.engine.after(plan.detail * 30, () => node.agent?.kill());
        return true;
      }),
    );
  },
  /** An operator makes the ttl shorter, and the answers of the store do not reach the holder any more. */
  "shorter ttl, answers lost": (world, node, plan) => {
    const before = world.store.values.get("config");
    ask(node, ({ service }) => service.patchSettings({ ttl: "2s" }, { dryRun: false, version: null }));
    let undo = nothing;
    let ended = false;
    const over = untilTrue(world, () => {
      if (world.store.values.get("config") === before) return false;
      world.engine.after(plan.detail * 1500, () => {
        if (!ended) undo = isolate(world, node, [storePlace], "to");
      });
      return true;
    });
    return () => {
      ended = true;
      over();
      undo();
    };
  },
  "data put back": (world, node, plan) => {
    const undo = powerOff(world, node, plan, false);
    if (undo !== nothing) putBack(world, node, second(plan.detail));
    return undo;
  },
} satisfies Record<string, Fault>;
