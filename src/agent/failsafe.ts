import { grantRefusal, type Grant } from "../cluster/failsafe.ts";
import { heldForMs, renewalMs } from "../cluster/policy.ts";
import { toFault } from "../values/fault.ts";
import type { FencingToken, NodeName } from "../values/names.ts";
import { elapsedMs, instantAfter, type Instant } from "../values/time.ts";
import type { AgentContext } from "./context.ts";

/** A leader that could not renew for this share of the time a renewal holds begins to ask. */
const askAfter = 0.5;
/** No question waits shorter than this for its answer: a disk has to be written before it comes. */
const leastWaitMs = 250;

/** A question to one node. */
interface Asked {
  readonly token: FencingToken;
  readonly sent: Instant;
  readonly bootOffset: number;
  readonly holdMs: number;
}

/**
 * Failsafe (docs/spec/failover.md, "DCS not reachable"): a leader that cannot renew asks all who could take over to grant it
 * more time, and goes on while every one of them does. The other end, giving a grant, is `give`.
 *
 * The grant names the token that is confirmed in the DCS. While the DCS is away the durability record and the token stay as
 * they are: a standby that dies then blocks commits, since nobody could record that it does not count any more. An agent that
 * restarts has no grants: it renews before it serves (P2), or its PostgreSQL ends at the deadline.
 */
export class Failsafe {
  readonly #context: AgentContext;
  #active = false;
  readonly #asking = new Set<NodeName>();
  /** The last question to each node, and the last one that it granted. */
  readonly #asked = new Map<NodeName, Asked>();
  readonly #given = new Map<NodeName, Asked>();
  readonly #refusals = new Map<NodeName | "lease", string>();
  #closed = false;

  constructor(context: AgentContext) {
    this.#context = context;
  }

  /** This leader goes on although it cannot renew: everybody has granted it. */
  get active(): boolean {
    return this.#active;
  }

  /** Why it cannot, as the last question found; empty = it can, or need not. */
  get refusals(): string {
    return [...this.#refusals].map(([of, why]) => `${of}: ${why}`).join("; ");
  }

  open(): void {
    if (this.#closed) return;
    const { timers, settings } = this.#context;
    timers.after(renewalMs(settings().ttlMs) / 2, () => {
      this.#tick();
      this.open();
    });
  }

  close(): void {
    this.#closed = true;
  }

  /** Gives a grant to the leader that asks for it. @throws Fault GRANT_REFUSED with the reason */
  async give(grant: Grant): Promise<void> {
    const { membership, options, settings, keeper, notebook, mirror, clock, log } = this.#context;
    const received = clock.now();
    await membership.give(grant, received, () =>
      grantRefusal(grant, {
        self: options.node,
        allowed: settings().failsafe,
        promised: membership.promised,
        holds: keeper.standing().kind === "mine",
        operation: notebook.operation?.kind ?? null,
        cluster: mirror.state,
      }),
    );
    log("debug", "failsafe.granted", { ...grant });
  }

  #tick(): void {
    const { membership, keeper, settings, guard, clock, log } = this.#context;
    void membership
      .tidy()
      .catch((thrown: unknown) => log("warn", "failsafe.tidy_failed", { ...toFault(thrown).report() }));
    const standing = keeper.standing();
    const unrenewedMs = keeper.unrenewedMs();
    const { failsafe, ttlMs } = settings();
    // Where ending PostgreSQL takes long, a renewal holds for less.
    const heldMs = heldForMs(ttlMs, guard.view().stopMs);
    const paceMs = Math.min(renewalMs(ttlMs), heldMs / 4);
    if (standing.kind !== "mine" || standing.lease.state !== "serving" || unrenewedMs === null) {
      this.#end(false);
      return;
    }
    if (unrenewedMs < heldMs * askAfter) {
      this.#end(true);
      return;
    }
    if (!failsafe || !this.#mayAsk()) return;
    const successors = keeper.successors();
    if (successors === null) {
      this.#refused("lease", "it does not say who could take over");
      return;
    }
    this.#refusals.delete("lease");
    const { token } = standing.lease;
    for (const name of successors) {
      const asked = this.#asked.get(name);
      const due = asked?.token !== token || elapsedMs(asked.sent, clock.now()) >= paceMs;
      if (due && !this.#asking.has(name)) void this.#ask(name, token, Math.max(leastWaitMs, heldMs / 2));
    }
    this.#extend(token, successors);
  }

  /** A deadline that no guard would see does not move (P4); a cluster that is not founded has no other to ask. */
  #mayAsk(): boolean {
    const { guard, mirror } = this.#context;
    return guard.view().alive && mirror.state?.initialization.value.kind === "initialized";
  }

  /** Asks one node. What it grants counts from before the question was sent, as a renewal does (P2). */
  async #ask(name: NodeName, token: FencingToken, waitMs: number): Promise<void> {
    const { keeper, settings, clock, peers, mirror, options } = this.#context;
    const node = mirror.state?.nodes.get(name)?.value;
    const sent = clock.now();
    const question: Asked = { token, sent, bootOffset: clock.bootMs() - sent, holdMs: settings().ttlMs };
    const grant: Grant = { holder: options.node, token, holdMs: question.holdMs };
    this.#asked.set(name, question);
    this.#asking.add(name);
    const refusal =
      node === undefined
        ? "it is not known"
        : await peers.grant(node, grant, waitMs).catch((thrown: unknown) => toFault(thrown).message);
    this.#asking.delete(name);
    if (this.#asked.get(name) !== question) return; // the need is over
    if (refusal !== null) {
      this.#refused(name, refusal);
      return;
    }
    this.#refusals.delete(name);
    this.#given.set(name, question);
    const successors = keeper.successors();
    if (successors !== null) this.#extend(token, successors);
  }

  /** The deadline moves to what the one that was asked longest ago has granted. */
  #extend(token: FencingToken, successors: readonly NodeName[]): void {
    const { keeper, clock, settings } = this.#context;
    const now = clock.now();
    // A node that is alone has nobody to ask.
    let oldest: Asked = { token, sent: now, bootOffset: clock.bootMs() - now, holdMs: settings().ttlMs };
    for (const name of successors) {
      const grant = this.#given.get(name);
      if (grant?.token !== token) return;
      if (instantAfter(grant.sent, grant.holdMs) < instantAfter(oldest.sent, oldest.holdMs)) oldest = grant;
    }
    if (keeper.extend(token, successors, oldest)) this.#began(successors);
  }

  #began(successors: readonly NodeName[]): void {
    const { journal, wake } = this.#context;
    if (this.#active) return;
    this.#active = true;
    const who =
      successors.length === 0 ? "no other node is registered" : `granted by ${successors.join(", ")}`;
    journal.event("failsafe_began", true, `leading on without the DCS: ${who}`, {
      granted_by: successors.join(", "),
    });
    wake();
  }

  #refused(of: NodeName | "lease", why: string): void {
    const { journal, log, wake } = this.#context;
    const first = this.#refusals.size === 0 && !this.#active;
    if (this.#refusals.get(of) !== why) log("warn", "failsafe.refused", { of, why });
    this.#refusals.set(of, why);
    const message = `not everybody lets this node lead on without the DCS: ${this.refusals}`;
    if (first) journal.event("failsafe_refused", false, message);
    wake();
  }

  /** The need is over: the lease was renewed, or is this node's no more. */
  #end(renewed: boolean): void {
    const why = this.refusals;
    this.#refusals.clear();
    this.#asked.clear();
    this.#given.clear();
    if (!this.#active) return;
    this.#active = false;
    const { journal, wake } = this.#context;
    const message = renewed
      ? "the lease was renewed: leading needs no grants any more"
      : `leading on without the DCS has ended${why === "" ? "" : `: ${why}`}`;
    journal.event("failsafe_ended", renewed, message);
    wake();
  }
}
