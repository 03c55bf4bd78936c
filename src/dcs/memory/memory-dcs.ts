import { Fault, toFault, type FaultCode } from "../../values/fault.ts";
import { systemTimers, type Timers } from "../../system/timers.ts";
import type {
  Dcs,
  DcsSnapshot,
  DcsTransaction,
  DcsTransactionResult,
  DcsWatch,
  DcsWatchEvent,
} from "../dcs.ts";
import { MemoryStore } from "./store.ts";
import { MemoryWatch, travel } from "./watch.ts";

/**
 * What a handle's network does. "replies-lost": requests reach the store and take effect, but no answer and no event
 * comes back, as with a connection cut at the wrong moment.
 */
export type MemoryNetwork = "up" | "down" | "replies-lost";

/** How the store behaves. */
export interface MemoryDcsOptions {
  /** Where waiting comes from; the simulator injects its own. */
  readonly timers?: Timers;
  /** Milliseconds one message travels, drawn anew for each; 0 = delivered with the next microtask. */
  readonly delayMs?: () => number;
}

/** A store in this process. */
export interface MemoryDcs {
  /** A handle for one client; `prefix` tells clusters apart, as `/<namespace>/<scope>/` does. */
  connect(prefix?: string): MemoryDcsHandle;
  /** Forgets all past changes: watches that are behind get a snapshot when their network is up again. */
  compact(): void;
}

/** One client's view of the store, with a network of its own. */
export interface MemoryDcsHandle extends Dcs {
  /** Breaks or heals this client's network. */
  setNetwork(network: MemoryNetwork): void;
}

/** Makes an empty store in memory, for tests and the simulator; deterministic if its timers are. */
export function createMemoryDcs(options: MemoryDcsOptions = {}): MemoryDcs {
  const store = new MemoryStore();
  const timers = options.timers ?? systemTimers;
  const delayMs = options.delayMs ?? ((): number => 0);
  return {
    connect: (prefix = "/service/demo/") => new Handle(store, prefix, timers, delayMs),
    compact: () => store.compact(store.revision),
  };
}

class Handle implements MemoryDcsHandle {
  readonly description = "memory";
  readonly #store: MemoryStore;
  readonly #prefix: string;
  readonly #timers: Timers;
  readonly #delayMs: () => number;
  readonly #watches = new Set<MemoryWatch>();
  #network: MemoryNetwork = "up";
  #closed = false;

  constructor(store: MemoryStore, prefix: string, timers: Timers, delayMs: () => number) {
    this.#store = store;
    this.#prefix = prefix;
    this.#timers = timers;
    this.#delayMs = delayMs;
  }

  read(timeoutMs: number): Promise<DcsSnapshot> {
    return this.#request(timeoutMs, "DCS_UNREACHABLE", () => ({
      revision: this.#store.revision,
      entries: this.#store.read(this.#prefix),
    }));
  }

  transact(transaction: DcsTransaction, timeoutMs: number): Promise<DcsTransactionResult> {
    return this.#request(timeoutMs, "DCS_UNCERTAIN", () => this.#store.transact(this.#prefix, transaction));
  }

  watch(handler: (event: DcsWatchEvent) => void): DcsWatch {
    const watch = new MemoryWatch({
      store: this.#store,
      prefix: this.#prefix,
      timers: this.#timers,
      delayMs: this.#delayMs,
      connected: () => this.#network === "up",
      handler,
      onClose: () => void this.#watches.delete(watch),
    });
    this.#watches.add(watch);
    if (this.#closed) watch.close();
    return watch;
  }

  setNetwork(network: MemoryNetwork): void {
    this.#network = network;
    for (const watch of this.#watches) watch.wake();
  }

  close(): Promise<void> {
    this.#closed = true;
    for (const watch of this.#watches) watch.close();
    return Promise.resolve();
  }

  /**
   * Carries a request there and its answer back. `lost` is the fault when the request may have arrived but no answer
   * came in time; the work then still takes effect when the request arrives later.
   */
  #request<T>(timeoutMs: number, lost: FaultCode, work: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#closed) {
        reject(new Fault("DCS_UNREACHABLE", "The DCS client is closed"));
        return;
      }
      const sent = this.#network !== "down";
      const limit = this.#timers.after(timeoutMs, () => {
        const detail = `No answer within ${timeoutMs} ms`;
        reject(new Fault(sent ? lost : "DCS_UNREACHABLE", "The DCS does not answer", { detail }));
      });
      if (!sent) return;
      travel(this.#timers, this.#delayMs(), () => {
        if (this.#network === "down") return;
        const result = outcomeOf(work);
        travel(this.#timers, this.#delayMs(), () => {
          if (this.#network !== "up") return;
          limit.cancel();
          if (result.ok) resolve(result.value);
          else reject(result.fault);
        });
      });
    });
  }
}

function outcomeOf<T>(work: () => T): { ok: true; value: T } | { ok: false; fault: Fault } {
  try {
    return { ok: true, value: work() };
  } catch (thrown) {
    return { ok: false, fault: toFault(thrown) };
  }
}
