import type { Timer, Timers } from "../../system/timers.ts";
import { toFault } from "../../values/fault.ts";
import { elapsedMs, instantAfter, type Instant } from "../../values/time.ts";
import type { VipAddress } from "./address.ts";
import { candidateEveryMs } from "./book.ts";
import { decideVip, type VipStep } from "./decide.ts";
import { lockDeadline } from "./lifetime.ts";
import type { VipNotifier } from "./notify.ts";
import { VipStore, type VipStoreOptions } from "./store.ts";

export interface VipKeeperOptions extends VipStoreOptions {
  readonly address: VipAddress;
  /** Why this router may not hold the address now; null = it may. */
  readonly unfit: () => string | null;
  readonly notifier: VipNotifier;
  readonly timers: Timers;
  /** Another process of this router, with the same `routerId`, has left what it held. */
  readonly inherited: boolean;
}

/** One virtual address as the status and the console show it. */
export interface VipView {
  readonly name: string;
  readonly address: string;
  readonly interface: string;
  readonly bind: "leader" | "router";
  /** held: on this host. waiting: another's, or nobody's. fault: this host cannot carry it. */
  readonly state: "held" | "waiting" | "fault";
  /** The router that holds the lock; null = nobody does, or the store is not known. */
  readonly holder: string | null;
  /** How long the state has been so. */
  readonly sinceMs: number;
  /** Why it is not held here, or what is wrong; null = nothing to say. */
  readonly message: string | null;
}

/** The interface is looked at this often. */
const inspectEveryMs = 1000;
/** Tries to place the address before this router lets another one try. */
const putTries = 3;
/** For so long it does not try again then. */
const restMs = 10_000;
const renewalsPerTtl = 5;
const retryMs = 50;
/** How often a process that has inherited the address looks whether it can hold it yet. */
const inheritMs = 100;

/** Holds this router's end of one virtual address: its lock, and the address on this host. */
export class VipKeeper {
  readonly #options: VipKeeperOptions;
  readonly #store: VipStore;
  /** The last confirmed renewal of the lock; null = not held. */
  #held: { readonly sent: Instant; readonly deadline: Instant } | null = null;
  #placed = false;
  #checkDuplicate = false;
  #stopAnnouncing: () => void = () => undefined;
  #tries = 0;
  /** What is wrong with this host, for people, and until when it counts. */
  #fault: { readonly message: string; readonly until: Instant } | null = null;
  #interfaceProblem: string | null = null;
  #inspected: Instant | null = null;
  #running: Promise<void> | null = null;
  #again = false;
  #timer: Timer | null = null;
  #closed = false;
  #shown: { state: VipView["state"]; at: Instant };

  constructor(options: VipKeeperOptions) {
    this.#options = options;
    this.#store = new VipStore(options);
    this.#shown = { state: "waiting", at: options.clock.now() };
  }

  /** Looks at everything now and does what is due; called for each change and by its own timer. */
  wake(): void {
    if (this.#closed) return;
    if (this.#running !== null) {
      this.#again = true;
      return;
    }
    this.#timer?.cancel();
    this.#running = this.#round()
      .catch((thrown: unknown) => {
        this.#options.log("error", "vip.defect", {
          vip: this.#options.settings.name,
          ...toFault(thrown).report(),
        });
        return candidateEveryMs;
      })
      .then((ms) => {
        this.#running = null;
        if (this.#closed) return;
        if (this.#again) {
          this.#again = false;
          this.wake();
        } else this.#timer = this.#options.timers.after(ms, () => this.wake());
      });
  }

  /** Leaves the address and the lock as they are to another process of the same router. */
  async leave(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await this.#running;
    this.#stopAnnouncing();
  }

  /** Gives the address and the lock up in order, so that another router takes over at once. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await this.#running;
    const { book, routerId, notifier } = this.#options;
    if (this.#held !== null || book.lock?.record?.routerId === routerId)
      await this.#release(null, "the router is stopping");
    else await this.#store.withdraw(this.#storeLimitMs());
    await notifier.idle();
  }

  view(): VipView {
    const { settings, book, clock } = this.#options;
    const record = book.lock?.record ?? null;
    return {
      name: settings.name,
      address: settings.address,
      interface: settings.interface,
      bind: settings.bind,
      state: this.#state(),
      holder: record?.state === "held" ? record.holder : null,
      sinceMs: elapsedMs(this.#shown.at, clock.now()),
      message: this.#placed ? null : (this.#unfit() ?? (this.#held === null ? null : this.#said())),
    };
  }

  #state(): VipView["state"] {
    const faulty = this.#hostProblem() !== null || (this.#held !== null && this.#said() !== null);
    const state = this.#placed ? "held" : faulty ? "fault" : "waiting";
    if (state !== this.#shown.state) this.#shown = { state, at: this.#options.clock.now() };
    return state;
  }

  /** @returns after how many milliseconds the next round is due */
  async #round(): Promise<number> {
    await this.#inspect();
    const step = this.#decide();
    await this.#take(step);
    this.#state();
    if (this.#held === null) await this.#offer();
    if (this.#held !== null) {
      const leftMs = elapsedMs(this.#options.clock.now(), this.#held.deadline);
      // A renewal that failed is tried again soon, not in a hot loop.
      return Math.max(retryMs, Math.min(this.#renewInMs(), leftMs));
    }
    const after = this.#decide();
    return after.kind === "wait" ? Math.max(1, Math.min(after.ms ?? Infinity, candidateEveryMs)) : 50;
  }

  /** When the next renewal is due; 0 = now. */
  #renewInMs(): number {
    const { settings, clock } = this.#options;
    if (this.#held === null) return 0;
    return Math.max(0, settings.lockMs / renewalsPerTtl - elapsedMs(this.#held.sent, clock.now()));
  }

  #decide(): VipStep {
    const { settings, router, routerId, book, clock } = this.#options;
    const unfit = this.#unfit();
    // Its guard is starting, say: the kernel's lifetime and the lock both end by themselves if that does not change.
    if (unfit !== null && this.#held === null && this.#inherits()) return { kind: "wait", ms: inheritMs };
    return decideVip({
      now: clock.now(),
      self: { router, routerId, priority: settings.priority },
      fit: unfit === null,
      unfit: unfit ?? "",
      lock: book.lock,
      deadline: this.#held?.deadline ?? null,
      candidates: book.candidates(),
    });
  }

  async #take(step: VipStep): Promise<void> {
    switch (step.kind) {
      case "wait":
        return;
      case "drop":
        await this.#drop(step.reason);
        return;
      case "release":
        await this.#release(step.successor, step.reason);
        return;
      case "renew":
        // A change that is no reason to renew, such as the event of the last renewal itself.
        if (this.#renewInMs() > 0) return;
        if (await this.#lock()) await this.#place();
        return;
      case "take":
        this.#checkDuplicate = step.from !== "released";
        if (await this.#lock()) await this.#place();
    }
  }

  /** @returns whether it took effect */
  async #lock(): Promise<boolean> {
    const sent = await this.#store.write("held", this.#storeLimitMs());
    if (sent === null) return false;
    this.#held = { sent, deadline: lockDeadline(sent, this.#options.settings.lockMs) };
    return true;
  }

  /** No wait for the store outlasts the deadline. */
  #storeLimitMs(): number {
    const { settings, clock } = this.#options;
    const limit = settings.lockMs * 0.3;
    if (this.#held === null) return limit;
    return Math.max(50, Math.min(limit, elapsedMs(clock.now(), this.#held.deadline)));
  }

  async #place(): Promise<void> {
    const { settings, address, notifier, log } = this.#options;
    const held = this.#held;
    if (held === null) return;
    try {
      if (!this.#placed && this.#checkDuplicate && settings.duplicateCheck) {
        const other = await address.takenBy();
        if (other !== null) {
          this.#blame(`${other} answers for ${settings.address} on ${settings.interface}`, 0);
          return;
        }
      }
      const outcome = await address.put(held.deadline);
      if (outcome === "refused")
        await this.#drop("this process stood still, and the guard gave the address up");
      if (outcome !== "placed") return;
      this.#tries = 0;
      if (this.#placed) return;
      this.#placed = true;
      this.#fault = null;
      this.#stopAnnouncing = address.announce();
      log("info", "vip.gained", { vip: settings.name, address: settings.address });
      notifier.tell("gained", `${settings.address} is on ${settings.interface} of this host`);
    } catch (thrown) {
      const fault = toFault(thrown);
      this.#tries += 1;
      // On a busy host a tool may miss its time once: the address that is there lives on.
      if (this.#tries < putTries) log("warn", "vip.put_failed", { vip: settings.name, ...fault.report() });
      else this.#blame(`${fault.message} ${fault.detail ?? ""}`.trim(), restMs);
    }
  }

  /** Something is wrong with the address on this host; `restMs` > 0: another router shall try. */
  #blame(message: string, rest: number): void {
    const { settings, notifier, log, clock } = this.#options;
    if (this.#fault?.message !== message) {
      log("error", "vip.fault", { vip: settings.name, message });
      notifier.tell("fault", message);
    }
    this.#fault = { message, until: instantAfter(clock.now(), rest) };
    if (rest > 0) this.#tries = 0;
  }

  async #release(successor: string | null, reason: string): Promise<void> {
    // Only what was removed is released: what could not be is left to run out.
    if (!(await this.#remove(reason))) return;
    await this.#store.write("released", this.#storeLimitMs(), { successor, reason });
    this.#held = null;
  }

  async #drop(reason: string): Promise<void> {
    this.#held = null;
    await this.#remove(reason);
  }

  /** @returns whether the address is surely gone from this host */
  async #remove(reason: string): Promise<boolean> {
    const { settings, address, notifier, log } = this.#options;
    this.#stopAnnouncing();
    this.#stopAnnouncing = (): void => undefined;
    const wasPlaced = this.#placed;
    this.#placed = false;
    try {
      await address.remove();
    } catch (thrown) {
      const fault = toFault(thrown);
      this.#blame(`${fault.message} ${fault.detail ?? ""}`.trim(), 0);
      return false;
    } finally {
      if (wasPlaced) {
        log("warn", "vip.lost", { vip: settings.name, address: settings.address, reason });
        notifier.tell("lost", reason);
      }
    }
    return true;
  }

  #said(): string | null {
    return this.#fault?.message ?? null;
  }

  #unfit(): string | null {
    return this.#options.unfit() ?? this.#hostProblem();
  }

  #hostProblem(): string | null {
    if (this.#interfaceProblem !== null) return this.#interfaceProblem;
    const fault = this.#fault;
    return fault !== null && this.#options.clock.now() < fault.until ? fault.message : null;
  }

  async #inspect(): Promise<void> {
    const { address, settings, clock } = this.#options;
    const now = clock.now();
    if (this.#inspected !== null && elapsedMs(this.#inspected, now) < inspectEveryMs) return;
    this.#inspected = now;
    try {
      const facts = await address.inspect();
      const problem = facts.permanent
        ? `${settings.address} is configured for ever on ${settings.interface}: take it out of this host's network configuration`
        : facts.problem;
      if (problem !== null && problem !== this.#interfaceProblem) this.#blame(problem, 0);
      this.#interfaceProblem = problem;
      // Left by an earlier life of this router: whoever does not hold the lock must not have it.
      if (facts.present && !facts.permanent && this.#held === null && !this.#inherits())
        await address.remove();
    } catch (thrown) {
      const { message } = toFault(thrown);
      if (message !== this.#interfaceProblem) this.#blame(message, 0);
      this.#interfaceProblem = message;
    }
  }

  /** Whether the address was left here by the process before this one, under a lock that goes on. */
  #inherits(): boolean {
    const { book, inherited, routerId } = this.#options;
    if (!inherited) return false;
    return (
      book.lock === null || (book.lock.record?.routerId === routerId && book.lock.record.state === "held")
    );
  }

  /** Tells the others whether this router could hold the address. */
  async #offer(): Promise<void> {
    if (this.#options.book.lock === null) return;
    if (this.#unfit() === null) await this.#store.offer(this.#storeLimitMs());
    else await this.#store.withdraw(this.#storeLimitMs());
  }
}
