import {
  isolate,
  late,
  powerOff,
  second,
  untilTrue,
  type Fault,
  type Machine,
  type Undo,
} from "./fault-tools.ts";
import { storePlace } from "./store.ts";
import type { World } from "./world.ts";

/** A third number from the one drawn. */
const third = (detail: number): number => (detail * 99_991) % 1;

/** Whether the member has reported for an election, as the store has it. */
export function hasPromised(world: World, { recordKey }: Machine): boolean {
  return world.store.values.get(recordKey)?.includes('"ballot":{') === true;
}

/** All others, and of them the node that is elected when all have the same WAL. */
export function othersOf(
  world: World,
  node: Machine,
): { readonly rest: Machine[]; readonly taker: Machine | undefined } {
  return {
    rest: world.machines.filter((each) => each !== node),
    taker: world.nodes.find((each) => each !== node),
  };
}

/**
 * Faults of which one member sees another cluster than the rest: what it promised, or recorded, must hold although it could go on
 * as if nothing had been. The moments are taken from what the store shows, and what follows them is late by a drawn time.
 */
export const returns = {
  /**
   * The store and all members lose the leader, and promise. Then it is back for one of them, while the one that takes over hears
   * late of the others; the one it is back for may have lost the store, or begin anew and be heard late.
   */
  "lost, then back for one": (world, node, plan) => {
    const { engine } = world;
    const { rest, taker } = othersOf(world, node);
    const others = rest.filter((each) => each !== taker);
    const one = others[Math.floor(third(plan.detail) * others.length)];
    if (taker === undefined || one === undefined) return () => undefined;
    const away = rest.filter((each) => each !== one).map(({ name }) => name);
    const undone = [isolate(world, node, [storePlace, ...away], "both")];
    const back = isolate(world, node, [one.name], "both");
    let over = false;
    const then = (ms: number, run: () => void): void =>
      void engine.after(ms, () => {
        if (!over) run();
      });
    const looks = [
      untilTrue(world, () => {
        if (!hasPromised(world, taker)) return false;
        undone.push(late(world, storePlace, taker.name, 100 * 15 ** plan.detail));
        return true;
      }),
      untilTrue(world, () => {
        if (!hasPromised(world, one)) return false;
        then(600 ** second(plan.detail), () => {
          back();
          const how = second(third(plan.detail));
          if (how < 0.4) undone.push(isolate(world, one, [storePlace], "both"));
          else if (how < 0.8) {
            // What it says of itself then comes late, too: the report from before still stands.
            undone.push(late(world, one.name, storePlace, how < 0.7 ? 300 * 10 ** second(how) : 0));
            one.agent?.kill();
          }
        });
        return true;
      }),
    ];
    return () => {
      over = true;
      for (const undo of [...looks, ...undone, back]) undo();
    };
  },
  /**
   * A leader is cut off from all but its clients. Who takes over loses the store as soon as it writes, before it could record
   * that the former leader is not needed any more, and then its power, while the former is there again with all it had.
   */
  "the next is lost before it tells": (world, node, plan) => {
    const { engine, checkers } = world;
    const before = checkers.writer;
    const others = othersOf(world, node).rest.map(({ name }) => name);
    const back = isolate(world, node, [storePlace, ...others], "both");
    const undone: Undo[] = [];
    let over = false;
    const then = (ms: number, run: () => Undo): void =>
      void engine.after(ms, () => {
        if (!over) undone.push(run());
      });
    const stop = untilTrue(world, () => {
      const { writer } = checkers;
      if (writer === before) return false;
      const next = world.nodes.find(({ postgres }) => postgres.server === writer);
      if (next === undefined || next === node) return true;
      const soon = 300 ** plan.detail;
      then(soon, () => isolate(world, next, [storePlace, node.name], "both"));
      then(soon + 1500 ** second(plan.detail), () => {
        back();
        return powerOff(world, next, plan, false);
      });
      return true;
    });
    return () => {
      over = true;
      for (const undo of [stop, ...undone, back]) undo();
    };
  },
  /**
   * The members lose a leader that reaches the store, late: it may record that it goes on without them just while they elect
   * another.
   */
  "lost while it tells": (world, node, plan) => {
    const { rest, taker } = othersOf(world, node);
    const undone = [
      isolate(
        world,
        node,
        rest.map(({ name }) => name),
        "both",
      ),
      second(plan.detail) < 0.7
        ? late(world, node.name, storePlace, 200 * 10 ** plan.detail)
        : late(world, storePlace, node.name, 100 * 12 ** plan.detail),
    ];
    if (taker !== undefined) undone.push(late(world, storePlace, taker.name, 100 * 12 ** third(plan.detail)));
    return () => {
      for (const undo of undone) undo();
    };
  },
} satisfies Record<string, Fault>;
