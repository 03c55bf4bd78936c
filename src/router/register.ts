import type { Log } from "../agent/context.ts";
import type {
  GateAnswer,
  MovedSessions,
  PinnedSessions,
  RouterListener,
  RouterRecord,
} from "../cluster/records.ts";
import type { Dcs } from "../dcs/dcs.ts";
import { encodeRecord, keys } from "../dcs/layout.ts";
import type { Clock } from "../system/clock.ts";
import type { Timer, Timers } from "../system/timers.ts";
import { Fault, toFault } from "../values/fault.ts";
import type { NodeName } from "../values/names.ts";
import { elapsedMs } from "../values/time.ts";

/** What a router says of itself, asked for with each write. */
export interface RouterSelf {
  readonly listeners: readonly RouterListener[];
  readonly admin: RouterRecord["admin"];
  readonly apiUrl: string | null;
  readonly sessions: number;
  readonly onPrimary: number;
  readonly pinned: readonly PinnedSessions[];
  readonly detached: readonly NodeName[];
  readonly gate: GateAnswer | null;
  readonly moved: MovedSessions | null;
}

export interface RegisterOptions {
  readonly dcs: Dcs;
  readonly name: string;
  readonly routerId: string;
  readonly version: string;
  readonly host: string;
  readonly self: () => RouterSelf;
  /** The record under this name as the watch last showed it. */
  readonly recorded: () => { readonly record: RouterRecord; readonly version: number } | null;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
}

const everyMs = 2_000;
const writeMs = 1_500;
/** A record of another process that grows within this time belongs to a router that lives. */
const watchMs = 5_000;
/** In one record: it has to stay small. */
const mostExamples = 20;

/** Keeps the router's record (`pgherd/routers/<name>`): every two seconds, and at once when something is to be told. */
export class RouterRegister {
  readonly #options: RegisterOptions;
  #sequence = 0;
  #version: number | null = null;
  #timer: Timer | null = null;
  #writing = false;
  #again = false;
  #closed = false;
  #isMine = false;
  #quarrel = false;

  constructor(options: RegisterOptions) {
    this.#options = options;
  }

  /**
   * Makes sure that the name is free: not of a router that lives on another host.
   * @throws Fault ROUTER_NAME_IN_USE
   */
  async claim(): Promise<void> {
    const { recorded, host, name, routerId, clock, timers } = this.#options;
    const found = recorded()?.record;
    this.#sequence = found?.sequence ?? 0;
    // The one that was here before has died, or the port would be taken; another host's may live.
    if (found === undefined || found.host === host) return;
    const started = clock.now();
    while (elapsedMs(started, clock.now()) < watchMs) {
      const now = recorded()?.record;
      if (now === undefined) return;
      if (now.routerId !== routerId && now.sequence !== found.sequence)
        throw new Fault("ROUTER_NAME_IN_USE", `A router named ${name} runs on ${now.host} already.`, {
          hint: "Give each router a name of its own (`router:` in its file).",
        });
      await timers.sleep(100);
    }
  }

  /** Begins to write. */
  open(): void {
    this.#isMine = true;
    this.changed();
  }

  /** Something is to be told now: an answer to a gate. */
  changed(): void {
    if (!this.#isMine || this.#closed) return;
    if (this.#writing) {
      this.#again = true;
      return;
    }
    this.#timer?.cancel();
    this.#writing = true;
    void this.#write().finally(() => {
      this.#writing = false;
      if (this.#again) {
        this.#again = false;
        this.changed();
      } else if (!this.#closed) this.#timer = this.#options.timers.after(everyMs, () => this.changed());
    });
  }

  /** Stops writing; the record is another process' from now on. */
  async leave(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    const { timers } = this.#options;
    for (let waited = 0; this.#writing && waited < writeMs; waited += 20) await timers.sleep(20);
  }

  /** Stops writing and takes the record away. */
  async close(): Promise<void> {
    const { dcs, name, log } = this.#options;
    await this.leave();
    if (this.#version === null) return;
    const key = keys.router(name);
    await dcs
      .transact({ checks: [{ key, version: this.#version }], writes: [{ key, value: null }] }, writeMs)
      .catch((thrown: unknown) => log("warn", "register.not_removed", { ...toFault(thrown).report() }));
  }

  async #write(): Promise<void> {
    const { dcs, name, recorded, log, routerId } = this.#options;
    const key = keys.router(name);
    const found = recorded();
    const version = this.#version ?? found?.version ?? 0;
    try {
      const result = await dcs.transact(
        { checks: [{ key, version }], writes: [{ key, value: encodeRecord(this.#record()) }] },
        writeMs,
      );
      if (result.outcome === "committed") {
        this.#version = result.revision;
        this.#quarrel = false;
        return;
      }
      // Ours, found late, or somebody removed it: from what stands there now. Another's: said once, and tried again.
      const now = recorded();
      this.#version = null;
      if (now !== null && now.record.routerId !== routerId && !this.#quarrel) {
        this.#quarrel = true;
        log("error", "register.name_taken", {
          name,
          by: now.record.host,
          hint: "Two routers have one name: give each its own. Until then a switchover may not wait for this one.",
        });
      }
    } catch (thrown) {
      this.#version = null;
      log("debug", "register.not_written", { ...toFault(thrown).report() });
    }
  }

  #record(): RouterRecord {
    const { name, routerId, version, host, clock } = this.#options;
    const self = this.#options.self();
    this.#sequence += 1;
    return {
      name,
      routerId,
      sequence: this.#sequence,
      version,
      host,
      ...self,
      pinned: bounded(self.pinned),
      writtenAt: clock.wall(),
    };
  }
}

function bounded(pinned: readonly PinnedSessions[]): PinnedSessions[] {
  let room = mostExamples;
  return pinned.map((each) => {
    const examples = each.examples.slice(0, room);
    room -= examples.length;
    return { ...each, examples };
  });
}
