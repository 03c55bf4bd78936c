import type { GuardView } from "../cluster/view.ts";
import { directoryIdentity, processFacts, type InstanceMarks } from "../postgres/processes.ts";
import type { Clock } from "../system/clock.ts";
import { elapsedMs, type Instant } from "../values/time.ts";
import type { GuardClient } from "./guard-client.ts";
import type { GuardPort } from "./guard-port.ts";
import type { Watchdog } from "./watchdog.ts";

export interface GuardsOptions {
  /** Makes the client of the guard process; `heard` is to be called when it was found or lost, or has answered. */
  readonly guard: (heard: () => void) => GuardClient;
  /** The same for the guard inside the supervisor; null without one. */
  readonly supervisor: ((heard: () => void) => GuardClient) | null;
  readonly watchdog: Watchdog;
  readonly dataDir: string;
  /** What ending a family of processes took on this machine, in milliseconds. */
  readonly stopMs: () => number;
  readonly clock: Clock;
}

/** The guard process of this node and the one in the supervisor: both are told everything, the first one must live. */
export class Guards implements GuardPort {
  readonly #options: GuardsOptions;
  readonly #guard: GuardClient;
  readonly #all: readonly GuardClient[];
  #known = "";
  #onChange: () => void = () => undefined;
  #missingSince: Instant | null;
  #marks: InstanceMarks = { postmaster: null, directory: null };

  constructor(options: GuardsOptions) {
    this.#options = options;
    this.#guard = options.guard(() => this.#heard());
    const second = options.supervisor?.(() => undefined);
    this.#all = second === undefined ? [this.#guard] : [this.#guard, second];
    this.#missingSince = options.clock.now();
  }

  get pid(): number | null {
    return this.#guard.pid;
  }

  open(onChange: () => void): void {
    this.#onChange = onChange;
    for (const each of this.#all) each.open();
  }

  arm(deadline: Instant, bootOffset: number): void {
    this.#options.watchdog.feed(deadline);
    for (const each of this.#all) each.arm(deadline, bootOffset, this.#marks);
  }

  disarm(): void {
    this.#options.watchdog.disarm();
    for (const each of this.#all) each.disarm();
  }

  watch(postmasterPid: number | null): void {
    // What was seen last stays: a postmaster that is gone may have left others behind, in the same directory.
    if (postmasterPid === null || this.#marks.postmaster?.pid === postmasterPid) return;
    const facts = processFacts(postmasterPid);
    if (facts === null) return;
    this.#marks = {
      postmaster: { pid: facts.pid, startTicks: facts.startTicks },
      directory: directoryIdentity(this.#options.dataDir),
    };
  }

  view(): GuardView {
    const alive = this.#guard.isAlive();
    this.#known = `${alive} ${this.isArmed()}`;
    const now = this.#options.clock.now();
    this.#missingSince = alive ? null : (this.#missingSince ?? now);
    const forMs = this.#missingSince === null ? 0 : elapsedMs(this.#missingSince, now);
    return { alive, forMs, stopMs: this.#options.stopMs(), refusal: this.#options.watchdog.refusal() };
  }

  isArmed(): boolean {
    return this.#guard.isArmed();
  }

  close(end: boolean): void {
    // Otherwise PostgreSQL runs on, and the next agent must come in time.
    if (end) this.#options.watchdog.disarm();
    for (const each of this.#all) each.close(end);
  }

  #heard(): void {
    const before = this.#known;
    this.view();
    if (this.#known !== before) this.#onChange();
  }
}
