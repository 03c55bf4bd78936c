import { clockDrift, heldForMs, renewalMs } from "../cluster/policy.ts";
import type { LeaseRecord } from "../cluster/records.ts";
import { highestPromise, type Versioned } from "../cluster/state.ts";
import type { Standing } from "../cluster/view.ts";
import type { Dcs, DcsCheck, DcsWrite } from "../dcs/dcs.ts";
import { encodeRecord, keys } from "../dcs/layout.ts";
import type { Clock } from "../system/clock.ts";
import type { Timer, Timers } from "../system/timers.ts";
import { Fault } from "../values/fault.ts";
import type { FencingToken, NodeName } from "../values/names.ts";
import { elapsedMs, instantAfter, type Instant } from "../values/time.ts";
import type { DcsMirror } from "./mirror.ts";

/** What else goes into a transaction that writes the lease. */
export interface LeaseTransaction {
  readonly checks: readonly DcsCheck[];
  readonly writes: readonly DcsWrite[];
}
const nothingElse: LeaseTransaction = { checks: [], writes: [] };

export interface LeaseKeeperOptions {
  readonly dcs: Dcs;
  readonly mirror: DcsMirror;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly self: NodeName;
  readonly ttlMs: () => number;
  /** What ending PostgreSQL took on this machine: a part of the deadline (P3). */
  readonly stopMs: () => number;
  /** The nodes registered now, this one too, for the lease to name; null = failsafe is off. */
  readonly registered: () => readonly NodeName[] | null;
  /** Whether the lease may be renewed now: not while no guard would see its new deadline (P4). */
  readonly mayRenew: () => boolean;
  /**
   * Told after every change of the own deadline; null = not the holder (any more). `bootOffset` is by how much the boot clock
   * was ahead of the monotonic one when the renewal was sent: any more since then was spent suspended. Re-arms the guard.
   */
  readonly onDeadline: (deadline: Instant | null, bootOffset: number) => void;
  readonly wake: () => void;
  readonly log: (event: string, fields: Record<string, unknown>) => void;
}

interface Held {
  readonly lease: LeaseRecord;
  readonly version: number;
  /** Before the last confirmed renewal was sent. */
  readonly sent: Instant;
  /** No process of ours may acknowledge a write after this (P2, P3). */
  readonly deadline: Instant;
  /** The boot clock ahead of the monotonic one when this renewal was sent. */
  readonly bootOffset: number;
}

/** Until when every node that may take over has granted this token (failsafe). */
interface Extension {
  readonly token: FencingToken;
  readonly deadline: Instant;
  readonly bootOffset: number;
}

/** A boot clock that ran this much further than the monotonic clock was a suspended machine (P2). */
const suspendMs = 300;

/**
 * Holds this node's end of the lease: renews it every ttl/5, writes every change of it by comparing the exact previous
 * renewal, and knows the deadline that follows from the moment before the last successful send (P2).
 */
export class LeaseKeeper {
  readonly #options: LeaseKeeperOptions;
  #held: Held | null = null;
  #extension: Extension | null = null;
  /** Whoever the lease may name, as it stands or may yet come to stand in the store; null = it may name nobody (failsafe off). */
  #named: ReadonlySet<NodeName> | null = new Set();
  #queue: Promise<unknown> = Promise.resolve();
  #timer: Timer | null = null;
  #closed = false;
  /** A renewal was not made because nothing would have ended PostgreSQL at its deadline. */
  #refused = false;
  #lapsing = false;
  /** The highest renewal number ever sent: no two writes of this keeper look alike, so that a late one is told apart (P2). */
  #sent = 0;

  constructor(options: LeaseKeeperOptions) {
    this.#options = options;
  }

  /** What the lease means to this node now (P2). */
  standing(): Standing {
    const { mirror, clock, self } = this.#options;
    this.#checkSuspend();
    const now = clock.now();
    const state = mirror.state;
    const sighting = mirror.leaseSighting;
    if (state === null || sighting === null) return { kind: "unknown" };
    const held = this.#held;
    if (held !== null && (held.version >= state.lease.version || this.#isOurs(state.lease.value, held))) {
      const remainingMs = elapsedMs(now, this.#limit(held).deadline);
      if (remainingMs > 0) return { kind: "mine", lease: held.lease, remainingMs };
      return { kind: "mine-lapsed", lease: held.lease, openMs: -remainingMs };
    }
    const lease = state.lease.value;
    if (lease === null) return { kind: "none" };
    const seenMs = elapsedMs(sighting.firstSeen, now);
    if (lease.state === "released")
      return { kind: "released", lease, mine: lease.holder === self, openMs: seenMs };
    if (lease.holder === self)
      return {
        kind: "mine-lapsed",
        lease,
        openMs: Math.max(0, seenMs - heldForMs(lease.ttlMs, this.#options.stopMs())),
      };
    const remainingMs = lease.ttlMs * (1 + clockDrift) - seenMs;
    return remainingMs > 0
      ? { kind: "other", lease, remainingMs }
      : { kind: "expired", lease, openMs: -remainingMs };
  }

  /** How long ago the last confirmed renewal was sent; null = this node holds nothing. */
  unrenewedMs(): number | null {
    return this.#held === null ? null : elapsedMs(this.#held.sent, this.#options.clock.now());
  }

  /** Every node that could take over from this one when its renewal has run out; null = that is not known. */
  successors(): readonly NodeName[] | null {
    if (this.#held === null || this.#named === null) return null;
    return [...this.#named].filter((name) => name !== this.#options.self);
  }

  /**
   * Every successor has granted this token for `holdMs`, asked at `sent`: the deadline moves on without the DCS (failsafe).
   * @returns false when it does not count: the token or the successors are not those asked for any more
   */
  extend(
    token: FencingToken,
    granted: readonly NodeName[],
    asked: { readonly sent: Instant; readonly bootOffset: number; readonly holdMs: number },
  ): boolean {
    const held = this.#held;
    const successors = this.successors();
    if (held?.lease.token !== token || successors?.every((name) => granted.includes(name)) !== true)
      return false;
    if (this.#lapsing || this.standing().kind !== "mine") return false;
    const deadline = instantAfter(asked.sent, heldForMs(asked.holdMs, this.#options.stopMs()));
    this.#extension = { token, deadline, bootOffset: asked.bootOffset };
    this.#hold(held);
    return true;
  }

  /** Begins to renew whenever this node is the holder: at once, because a restarted agent may have little time left. */
  open(): void {
    void this.renew().finally(() => this.#schedule());
  }

  /** Whether the lease is left to run out. */
  get lapsing(): boolean {
    return this.#lapsing;
  }

  /** For a holder that gives up but cannot be sure that PostgreSQL is dead (P3): nothing is renewed until told otherwise. */
  lapse(on: boolean): void {
    this.#lapsing = on;
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  /**
   * F4: makes this node the holder, if the lease is still exactly as `over` says.
   * @returns whether it took effect. @throws Fault DCS_UNREACHABLE, DCS_UNCERTAIN
   */
  async take(
    lease: LeaseRecord,
    over: Versioned<LeaseRecord | null>,
    also: LeaseTransaction,
  ): Promise<boolean> {
    this.#lapsing = false;
    return this.#exclusive(() => this.#write(lease, over.version, also));
  }

  /**
   * Writes a change of the lease this node holds. @returns whether it took effect.
   * @throws Fault LOST_LEADERSHIP when this node is not the holder, DCS_UNREACHABLE, DCS_UNCERTAIN
   */
  async change(
    change: (lease: LeaseRecord) => LeaseRecord,
    also: LeaseTransaction = nothingElse,
  ): Promise<boolean> {
    return this.#exclusive(async () => {
      const held = this.#held;
      if (held === null) throw new Fault("LOST_LEADERSHIP", "This node does not hold the lease (any more).");
      const next = { ...change(held.lease), renewal: held.lease.renewal + 1, ttlMs: this.#options.ttlMs() };
      return this.#write(next, held.version, also);
    });
  }

  /** One renewal now. Used at start ("a restarted agent renews before it serves") and by the timer. */
  async renew(): Promise<void> {
    await this.#exclusive(async () => {
      this.#checkSuspend();
      const own = this.#held ?? this.#recorded();
      if (own === null || this.#lapsing) return;
      if (!this.#options.mayRenew()) {
        this.#refused = true;
        this.#options.log("lease.not_renewed", { reason: "no guard is alive" });
        this.#options.wake();
        return;
      }
      const lease = {
        ...own.lease,
        token: this.#tokenAbovePromises(own.lease),
        renewal: own.lease.renewal + 1,
        ttlMs: this.#options.ttlMs(),
      };
      try {
        await this.#write(lease, own.version, nothingElse);
      } catch (thrown) {
        if (!(thrown instanceof Fault)) throw thrown;
        this.#options.log("lease.renewal_failed", { code: thrown.code, message: thrown.message });
        this.#options.wake();
      }
    });
  }

  /** A guard is there again: makes the renewal that was refused without one. */
  renewRefused(): void {
    if (!this.#refused) return;
    this.#refused = false;
    void this.renew();
  }

  /** F9: who promised a higher token follows no lower one; the holder goes on with theirs, on the same timeline. */
  #tokenAbovePromises(lease: LeaseRecord): FencingToken {
    const { mirror, log } = this.#options;
    const promised = mirror.state === null ? lease.token : highestPromise(mirror.state);
    if (lease.state !== "serving" || promised <= lease.token) return lease.token;
    log("lease.token_raised", { from: lease.token, to: promised });
    return promised;
  }

  /** The lease in the DCS when it names this node although the keeper does not hold it: after a restart, or a lost reply. */
  #recorded(): { lease: LeaseRecord; version: number } | null {
    const recorded = this.#options.mirror.state?.lease;
    if (recorded?.value?.holder !== this.#options.self || recorded.value.state === "released") return null;
    return { lease: recorded.value, version: recorded.version };
  }

  async #write(wanted: LeaseRecord, version: number, also: LeaseTransaction): Promise<boolean> {
    const { dcs, clock, self } = this.#options;
    const registered = this.#options.registered();
    const lease: LeaseRecord = { ...wanted, renewal: Math.max(wanted.renewal, this.#sent + 1), registered };
    this.#sent = lease.renewal;
    // Until this write is known to have failed, the store may name the nodes of either.
    this.#named =
      this.#named === null || registered === null ? null : new Set([...this.#named, ...registered]);
    const sent = clock.now();
    const bootOffset = clock.bootMs() - sent;
    const deadline = instantAfter(sent, heldForMs(lease.ttlMs, this.#options.stopMs()));
    // From the moment a shorter ttl is sent, the deadline is at most that of the shorter (P2).
    if (this.#held !== null && lease.ttlMs < this.#held.lease.ttlMs && deadline < this.#held.deadline)
      this.#hold({ ...this.#held, deadline });
    try {
      const result = await dcs.transact(
        {
          checks: [{ key: keys.lease, version }, ...also.checks],
          writes: [{ key: keys.lease, value: encodeRecord(lease) }, ...also.writes],
        },
        this.#timeoutMs(lease.ttlMs),
      );
      this.#options.mirror.touch();
      if (result.outcome === "committed") {
        if (lease.state === "released") this.#drop("released");
        else this.#confirm({ sent, lease, version: result.revision, deadline, bootOffset });
        return true;
      }
      await this.#reconcile();
      return false;
    } catch (thrown) {
      if (!(thrown instanceof Fault) || thrown.code !== "DCS_UNCERTAIN") throw thrown;
      // The reply was lost: what stands in the store now tells, and a found renewal counts from its own t0 (P2).
      const state = await this.#options.mirror
        .refresh(this.#timeoutMs(lease.ttlMs))
        .catch((unread: unknown): never => {
          // A release that may take effect at any time is one: what was given up is not begun again.
          if (lease.state === "released") this.#drop("it may have been released");
          throw unread;
        });
      const found = state.lease.value;
      if (
        found?.holder === self &&
        found.token === lease.token &&
        found.renewal === lease.renewal &&
        found.state === lease.state
      ) {
        if (lease.state === "released") this.#drop("released");
        else this.#confirm({ sent, lease, version: state.lease.version, deadline, bootOffset });
        return true;
      }
      this.#judge(state.lease);
      return false;
    }
  }

  /** A check failed: either another holds the lease, or one of our own earlier writes was found late. */
  async #reconcile(): Promise<void> {
    const state = await this.#options.mirror.refresh(this.#timeoutMs(this.#options.ttlMs()));
    this.#judge(state.lease);
  }

  #judge(recorded: Versioned<LeaseRecord | null>): void {
    const held = this.#held;
    if (held === null) return;
    const lease = recorded.value;
    // Our own write, found late: its t0 is not known any more, so the deadline of the last confirmed one stays.
    if (this.#isOurs(lease, held))
      this.#hold({ ...held, lease: lease ?? held.lease, version: recorded.version });
    else this.#drop(lease === null ? "the lease is gone" : `token ${lease.token} of ${lease.holder}`);
  }

  /**
   * Whether what is recorded still is this node's lease: a write of ours whose event came before its reply, or no lease at
   * all. Nobody can have taken it before our deadline, so a record that was deleted or overwritten with garbage is ours.
   */
  #isOurs(lease: LeaseRecord | null, held: Held): boolean {
    if (lease === null) return elapsedMs(this.#options.clock.now(), this.#limit(held).deadline) > 0;
    return (
      lease.holder === this.#options.self && lease.token >= held.lease.token && lease.state !== "released"
    );
  }

  /** A renewal took effect: whatever was sent before it cannot any more. */
  #confirm(held: Held): void {
    this.#named = held.lease.registered == null ? null : new Set(held.lease.registered);
    this.#hold(held);
  }

  /** The deadline in force: that of the renewal, or the later one that all successors have granted for its token. */
  #limit(held: Held): { readonly deadline: Instant; readonly bootOffset: number } {
    const extension = this.#extension;
    if (extension === null || extension.token !== held.lease.token) return held;
    return extension.deadline > held.deadline ? extension : held;
  }

  #hold(held: Held): void {
    this.#held = held;
    const { deadline, bootOffset } = this.#limit(held);
    this.#options.onDeadline(deadline, bootOffset);
    // A machine suspended since the renewal was sent was away for longer than the monotonic clock tells.
    this.#checkSuspend();
  }

  #drop(reason: string): void {
    if (this.#held === null) return;
    this.#options.log("lease.dropped", { token: this.#held.lease.token, reason });
    this.#held = null;
    this.#extension = null;
    this.#lapsing = false;
    this.#options.onDeadline(null, 0);
    this.#options.wake();
  }

  #checkSuspend(): void {
    const { clock, log, onDeadline, wake } = this.#options;
    const held = this.#held;
    const now = clock.now();
    if (held === null) return;
    const { deadline, bootOffset } = this.#limit(held);
    if (deadline <= now) return;
    const ms = clock.bootMs() - now - bootOffset;
    if (ms <= suspendMs) return;
    log("lease.suspended", { ms });
    this.#extension = null;
    this.#held = { ...held, deadline: now };
    onDeadline(now, bootOffset);
    wake();
  }

  #timeoutMs(ttlMs: number): number {
    return Math.max(400, ttlMs * 0.4);
  }

  #schedule(): void {
    if (this.#closed) return;
    this.#timer = this.#options.timers.after(renewalMs(this.#options.ttlMs()), () => {
      void this.renew().finally(() => this.#schedule());
    });
  }

  /** Writes of the lease follow one another; a failure of one does not stop the next. */
  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#queue.then(work);
    this.#queue = run.catch(() => undefined);
    return run;
  }
}
