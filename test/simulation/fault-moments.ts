import {
  ask,
  boot,
  isolate,
  late,
  nothing,
  otherNodes,
  powerOff,
  second,
  untilTrue,
  type Fault,
  type Undo,
} from "./fault-tools.ts";
import { hasPromised, othersOf } from "./fault-returns.ts";
import { storePlace } from "./store.ts";

/**
 * Faults that strike at one step of the program, and are drawn only where they are asked for by name: the moments that a rule of
 * the protocol exists for, and that nothing drawn by the clock meets often enough.
 */
export const moments = {
  /** The answer to a renewal takes nearly as long as the holder waits for it; then the holder is cut off from all but its clients. */
  "renewed, answered late": (world, node, plan) => {
    const { checkers } = world;
    const before = checkers.lease;
    if (before === null) return nothing;
    const undone = [late(world, storePlace, node.name, before.ttlMs * (0.2 + 0.18 * plan.detail))];
    undone.push(
      untilTrue(world, () => {
        const { lease } = checkers;
        if (lease?.holder !== node.name || lease.renewal === before.renewal) return false;
        undone.push(isolate(world, node, [storePlace], "from"));
        undone.push(isolate(world, node, otherNodes(world), "both"));
        return true;
      }),
    );
    return () => undone.forEach((undo) => undo());
  },
  /** An operator makes the ttl shorter; the holder renews so, hears no answer, and is cut off from all but its clients. */
  "shorter ttl, unanswered": (world, node, plan) => {
    const { checkers, engine, store } = world;
    const before = store.values.get("config");
    ask(node, ({ service }) => service.patchSettings({ ttl: "2s" }, { dryRun: false, version: null }));
    const undone: Undo[] = [];
    let over = false;
    const looks = [
      untilTrue(world, () => {
        if (store.values.get("config") === before) return false;
        // The holder hears of the change, and of nothing after it.
        engine.after(400 ** plan.detail, () => {
          if (!over) undone.push(late(world, storePlace, node.name, 30_000));
        });
        return true;
      }),
      untilTrue(world, () => {
        const { lease } = checkers;
        if (lease?.holder !== node.name || lease.ttlMs !== 2000) return false;
        undone.push(isolate(world, node, [storePlace, ...otherNodes(world)], "both"));
        return true;
      }),
    ];
    return () => {
      over = true;
      for (const undo of [...looks, ...undone]) undo();
    };
  },
  /** An operator has commits wait for one standby and then for two, one of which gets everything a little late. */
  "two instead of one": (world, node, plan) => {
    const other = othersOf(world, node).rest[second(plan.detail) < 0.5 ? 0 : 1];
    if (other === undefined) return nothing;
    const undo = late(world, node.name, other.name, 30 * 8 ** plan.detail);
    const waitFor = (count: number): Undo =>
      ask(node, ({ service }) =>
        service.patchSettings({ sync_standbys: count }, { dryRun: false, version: null }),
      );
    waitFor(1);
    let over = false;
    world.engine.after(plan.ms / 2, () => {
      if (!over) waitFor(2);
    });
    return () => {
      over = true;
      undo();
    };
  },
  /** A leader is lost, and the next one as soon as it is promoted: the store hears nothing of its timeline. */
  "lost as it is promoted": (world, node, plan) => {
    const { checkers, engine } = world;
    const before = checkers.writer;
    const undone: Undo[] = [powerOff(world, node, plan, false)];
    let over = false;
    const stop = untilTrue(world, () => {
      const { writer } = checkers;
      const next = world.nodes.find(({ postgres }) => postgres.server === writer);
      if (writer === before || next === undefined || next === node) return false;
      undone.push(isolate(world, next, [storePlace], "both"));
      engine.after(300 ** second(plan.detail), () => {
        if (over) return;
        undone.push(powerOff(world, next, plan, false));
        boot(world, node);
      });
      return true;
    });
    return () => {
      over = true;
      for (const undo of [stop, ...undone]) undo();
    };
  },
  /**
   * A backup server promises for an election, begins anew, and then sees the leader again and not the election, which goes on by
   * what it reported before.
   */
  "promised, then anew": (world, node, plan) => {
    const { archive } = world;
    const { taker } = othersOf(world, node);
    if (archive === null || taker === undefined) return nothing;
    const apart = world.nodes.filter((each) => each !== node).map(({ name }) => name);
    const undone = [isolate(world, node, [storePlace, ...apart], "both")];
    const back = isolate(world, node, [archive.name], "both");
    const stop = untilTrue(world, () => {
      if (!hasPromised(world, archive)) return false;
      undone.push(late(world, storePlace, taker.name, 500 * 6 ** plan.detail));
      undone.push(late(world, archive.name, storePlace, 1000 * 4 ** second(plan.detail)));
      archive.agent?.kill();
      back();
      return true;
    });
    return () => [stop, back, ...undone].forEach((undo) => undo());
  },
} satisfies Record<string, Fault>;
