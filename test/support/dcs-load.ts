import { commit, record, type Recording } from "../../src/dcs/dcs.contract.ts";
import type { Dcs } from "../../src/dcs/dcs.ts";
import { createEtcdDcs, type EtcdDcsOptions } from "../../src/dcs/etcd/etcd-dcs.ts";
import { systemClock } from "../../src/system/clock.ts";
import { systemTimers } from "../../src/system/timers.ts";
import { Fault } from "../../src/values/fault.ts";

/** An etcd client on the real clock. */
export function etcdClient(options: Omit<EtcdDcsOptions, "clock" | "timers">): Dcs {
  return createEtcdDcs({ ...options, clock: systemClock, timers: systemTimers });
}

/** The longest times without a success, in milliseconds. */
export interface Gaps {
  /** Reads of the observed client. */
  readonly readMs: number;
  /** Guarded writes of the observed client. */
  readonly writeMs: number;
  /** Changes its watch reported. */
  readonly watchMs: number;
  /** Writes of the other client: what the store itself was away. */
  readonly storeMs: number;
}

/** Traffic on two clients of one store. */
export interface Load {
  /** How often the observed client was answered so far: waiting for it to grow proves that requests go on. */
  answered(): number;
  readonly watched: Recording;
  /** Ends the traffic, waits until the watch has seen the last write, and checks that it saw each one exactly once. */
  finish(): Promise<Gaps>;
}

/**
 * One client (`observed`) reads, renews a key and watches; another (`writer`) counts a key up as fast as every 10 ms.
 * Both are closed at the end.
 */
export async function startLoad(observed: Dcs, writer: Dcs): Promise<Load> {
  const watched = record(observed);
  await watched.until((events) => events.length > 0);
  const gaps = { read: new GapMeter(), write: new GapMeter(), watch: new GapMeter(), store: new GapMeter() };
  let stopped = false;
  const repeat = async (pauseMs: number, work: () => Promise<void>): Promise<void> => {
    while (!stopped) {
      await work();
      await systemTimers.sleep(pauseMs);
    }
  };
  const seen = watchMeter(observed, gaps.watch);
  const counting = counter(writer, "count");
  const renewing = counter(observed, "lease");
  const work = [
    repeat(20, () => tolerate(() => observed.read(1500), gaps.read)),
    repeat(100, () => tolerate(renewing.next, gaps.write)),
    repeat(10, () => tolerate(counting.next, gaps.store)),
  ];
  return {
    answered: () => gaps.read.count,
    watched,
    finish: async () => {
      stopped = true;
      await Promise.all(work);
      const last = { count: await counting.value(), lease: await renewing.value() };
      await watched.until(() => valuesOf(watched, "count").at(-1) === last.count);
      await watched.until(() => valuesOf(watched, "lease").at(-1) === last.lease);
      for (const key of ["count", "lease"] as const)
        expectConsecutive(key, valuesOf(watched, key), last[key]);
      seen.close();
      watched.close();
      await Promise.all([observed.close(), writer.close()]);
      return {
        readMs: gaps.read.longestMs,
        writeMs: gaps.write.longestMs,
        watchMs: gaps.watch.longestMs,
        storeMs: gaps.store.longestMs,
      };
    },
  };
}

class GapMeter {
  count = 0;
  longestMs = 0;
  #last = performance.now();

  hit(): void {
    const now = performance.now();
    this.longestMs = Math.max(this.longestMs, Math.round(now - this.#last));
    this.#last = now;
    this.count += 1;
  }
}

function watchMeter(dcs: Dcs, meter: GapMeter): { close(): void } {
  return dcs.watch((event) => {
    if (event.kind === "changes") meter.hit();
  });
}

/** Failures for want of contact are what the meters measure; anything else is an error. */
async function tolerate(work: () => Promise<unknown>, meter: GapMeter): Promise<void> {
  try {
    await work();
    meter.hit();
  } catch (thrown) {
    if (!(thrown instanceof Fault) || !/^DCS_UN/.test(thrown.code)) throw thrown;
  }
}

/** Counts a key up by compare-and-swap; after an unknown outcome it reads where it stands. */
function counter(dcs: Dcs, key: string): { next: () => Promise<void>; value: () => Promise<number> } {
  let known: { value: number; version: number } | undefined;
  const load = async (): Promise<{ value: number; version: number }> => {
    const entry = (await dcs.read(5000)).entries.get(key);
    return { value: Number(entry?.value ?? 0), version: entry?.version ?? 0 };
  };
  return {
    next: async () => {
      const { value, version } = known ?? (await load());
      known = undefined;
      const revision = await commit(dcs, [[key, version]], [[key, String(value + 1)]]);
      known = { value: value + 1, version: revision };
    },
    value: async () => (await load()).value,
  };
}

function valuesOf(watched: Recording, key: string): number[] {
  return watched.events.flatMap((event) => {
    if (event.kind !== "changes") return [];
    const entry = event.changes.get(key);
    return entry === undefined || entry === null ? [] : [Number(entry.value)];
  });
}

function expectConsecutive(key: string, seen: readonly number[], last: number): void {
  const first = seen[0] ?? 0;
  const wrong = seen.findIndex((value, index) => value !== first + index);
  if (wrong >= 0) throw new Error(`${key}: after ${String(seen[wrong - 1])} came ${String(seen[wrong])}`);
  if (seen.at(-1) !== last) throw new Error(`${key}: the last change ${String(last)} was not seen`);
}
