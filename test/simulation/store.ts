import {
  happensAtMostOnce,
  type Dcs,
  type DcsSnapshot,
  type DcsTransaction,
  type DcsTransactionResult,
  type DcsWatch,
  type DcsWatchEvent,
} from "../../src/dcs/dcs.ts";
import { MemoryStore } from "../../src/dcs/memory/store.ts";
import type { Timers } from "../../src/system/timers.ts";
import { Fault, type FaultCode } from "../../src/values/fault.ts";
import type { Engine, SimProcess } from "./engine.ts";
import type { Network } from "./network.ts";
import type { Rng } from "./rng.ts";

/** Where the store stands in the network. */
export const storePlace = "dcs";

const aliveEveryMs = 500;
const silentMs = 1500;
/** After so long without an answer the client sends to another member. */
const attemptMs = 300;

/**
 * The store: one linearizable history of revisions. While it has no quorum, requests wait or are lost; around a change of its
 * own leader a write may take effect without an answer, or long after whoever sent it gave up.
 */
export class SimStore {
  readonly data = new MemoryStore();
  /** Called for every transaction that commits while `values` are still those before it, for the checkers. */
  onCommit: (transaction: DcsTransaction) => void = () => undefined;
  /** The share of answers that are lost although the request took effect. */
  lostAnswers = 0;
  readonly #engine: Engine;
  readonly #rng: Rng;
  readonly #network: Network;
  #available = true;
  #waiting: (() => void)[] = [];
  /** The values as of the last transaction, by key. */
  readonly values = new Map<string, string>();

  constructor(engine: Engine, rng: Rng, network: Network) {
    this.#engine = engine;
    this.#rng = rng;
    this.#network = network;
  }

  get available(): boolean {
    return this.#available;
  }

  /** Loses its quorum or its leader, or has them back. */
  setAvailable(available: boolean): void {
    this.#available = available;
    if (!available) return;
    for (const request of this.#waiting.splice(0)) this.#engine.after(this.#rng.between(0.1, 20), request);
  }

  /** Runs a request when the store can: at once, when it is available again, or never, and then the client may send it again. */
  serve(request: () => void, lost: () => void): void {
    if (this.#available) request();
    else if (this.#rng.chance(0.6)) this.#waiting.push(request);
    else lost();
  }

  apply(transaction: DcsTransaction): DcsTransactionResult {
    const result = this.data.transact("", transaction);
    if (result.outcome === "committed") {
      this.onCommit(transaction);
      for (const { key, value } of transaction.writes)
        if (value === null) this.values.delete(key);
        else this.values.set(key, value);
    }
    return result;
  }

  /** A client's view of the store. */
  connect(from: string, process: SimProcess, timers: Timers): Dcs {
    return new StoreClient({
      store: this,
      engine: this.#engine,
      network: this.#network,
      rng: this.#rng,
      from,
      process,
      timers,
    });
  }
}

interface ClientParts {
  readonly store: SimStore;
  readonly engine: Engine;
  readonly network: Network;
  readonly rng: Rng;
  readonly from: string;
  readonly process: SimProcess;
  readonly timers: Timers;
}

/** One request. The real client repeats it where that cannot do anything twice. */
interface Request<T> {
  readonly timeoutMs: number;
  readonly late: FaultCode;
  readonly lostAnswers: number;
  readonly repeatable: boolean;
  readonly work: () => T;
}

class StoreClient implements Dcs {
  readonly description = "the simulated store";
  readonly #parts: ClientParts;
  readonly #watches = new Set<StoreWatch>();

  constructor(parts: ClientParts) {
    this.#parts = parts;
  }

  read(timeoutMs: number): Promise<DcsSnapshot> {
    const { data } = this.#parts.store;
    const work = (): DcsSnapshot => ({ revision: data.revision, entries: data.read("") });
    return this.#request({ timeoutMs, late: "DCS_UNREACHABLE", lostAnswers: 0, repeatable: true, work });
  }

  transact(transaction: DcsTransaction, timeoutMs: number): Promise<DcsTransactionResult> {
    const { store } = this.#parts;
    return this.#request({
      timeoutMs,
      late: "DCS_UNCERTAIN",
      lostAnswers: store.lostAnswers,
      repeatable: happensAtMostOnce(transaction),
      work: () => store.apply(transaction),
    });
  }

  watch(handler: (event: DcsWatchEvent) => void): DcsWatch {
    const watch = new StoreWatch(this.#parts, handler);
    this.#watches.add(watch);
    return watch;
  }

  close(): Promise<void> {
    for (const watch of this.#watches) watch.close();
    return Promise.resolve();
  }

  #request<T>({ timeoutMs, late, lostAnswers, repeatable, work }: Request<T>): Promise<T> {
    const { store, network, from, process, timers, rng } = this.#parts;
    return new Promise((resolve, reject) => {
      // A connection that has been dead for a while is known to be dead: nothing is sent over it.
      const dead = network.blockedMs(from, storePlace) > 2000 && rng.chance(0.7);
      let over = false;
      const limit = timers.after(timeoutMs, () => {
        over = true;
        const detail = `No answer within ${Math.round(timeoutMs)} ms`;
        reject(new Fault(dead ? "DCS_UNREACHABLE" : late, "The DCS does not answer", { detail }));
      });
      if (dead) return;
      const lost = (): void => {
        if (repeatable) process.deliver(() => timers.after(attemptMs, () => over || send()));
      };
      const send = (): void =>
        network.send(from, storePlace, () =>
          store.serve(() => {
            const result = work();
            if (rng.chance(lostAnswers)) return;
            network.send(storePlace, from, () =>
              process.deliver(() => {
                limit.cancel();
                resolve(result);
              }),
            );
          }, lost),
        );
      send();
    });
  }
}

/** One watch: a snapshot, then every change in order, one message under way at a time. */
class StoreWatch implements DcsWatch {
  readonly #parts: ClientParts;
  readonly #handler: (event: DcsWatchEvent) => void;
  readonly #stopListening: () => void;
  #seen: number | null = null;
  #underWay = false;
  #heardAt: number;
  #closed = false;

  constructor(parts: ClientParts, handler: (event: DcsWatchEvent) => void) {
    this.#parts = parts;
    this.#handler = handler;
    this.#heardAt = parts.engine.now;
    this.#stopListening = parts.store.data.onChange(() => this.#wake());
    parts.process.onDeath(() => this.close());
    this.#wake();
    this.#tick();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopListening();
  }

  #wake(): void {
    const { store, network, from, process } = this.#parts;
    if (this.#closed || this.#underWay) return;
    if (this.#seen !== null && this.#seen >= store.data.revision) return;
    this.#underWay = true;
    const lost = (): void => {
      this.#underWay = false; // the connection broke; the tick opens another
    };
    network.send(
      storePlace,
      from,
      () => {
        this.#underWay = false;
        if (this.#closed) return;
        const { data } = store;
        const missed = this.#seen === null ? undefined : data.changesAfter(this.#seen);
        this.#seen = data.revision;
        const events: DcsWatchEvent[] =
          missed === undefined
            ? [{ kind: "snapshot", snapshot: { revision: data.revision, entries: data.read("") } }]
            : missed.map((change) => ({ kind: "changes", ...change }));
        process.deliver(() => this.#report(events));
        this.#wake();
      },
      lost,
    );
  }

  #report(events: readonly DcsWatchEvent[]): void {
    this.#heardAt = this.#parts.engine.now;
    for (const event of events) if (!this.#closed) this.#handler(event);
  }

  /** Signs of life, and whether there have been any. */
  #tick(): void {
    const { engine, network, from, process, store } = this.#parts;
    if (this.#closed) return;
    engine.after(aliveEveryMs, () => this.#tick());
    if (store.available && network.isOpen(from, storePlace)) {
      if (this.#seen !== null)
        network.send(storePlace, from, () => process.deliver(() => this.#report([{ kind: "alive" }])));
    }
    if (engine.now - this.#heardAt > silentMs && engine.now - this.#heardAt <= silentMs + aliveEveryMs)
      process.deliver(() => this.#handler({ kind: "lost", reason: "No sign of life from the store" }));
    this.#wake();
  }
}
