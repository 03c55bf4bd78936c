import { grantRefusal, type Grant } from "../cluster/failsafe.ts";
import { heldForMs, renewalMs } from "../cluster/policy.ts";
import type { LeaseRecord } from "../cluster/records.ts";
import { toFault } from "../values/fault.ts";
import type { NodeName } from "../values/names.ts";
import { elapsedMs, type Instant } from "../values/time.ts";
import type { AgentContext } from "./context.ts";

/** A leader that could not renew for this share of the time a renewal holds begins to ask. */
const askAfter = 0.5;
/** No question waits shorter than this for its answer: a disk has to be written before it comes. */
const leastWaitMs = 250;

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
  #asking = false;
  #askedAt: Instant | null = null;
  #refusals = "";
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
    return this.#refusals;
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
    if (!failsafe || this.#asking || !this.#mayAsk()) return;
    if (this.#askedAt !== null && elapsedMs(this.#askedAt, clock.now()) < paceMs) return;
    this.#asking = true;
    void this.#ask(standing.lease, Math.max(leastWaitMs, paceMs))
      .catch((thrown: unknown) => log("error", "failsafe.failed", { ...toFault(thrown).report() }))
      .finally(() => (this.#asking = false));
  }

  /** A deadline that no guard would see does not move (P4); a cluster that is not founded has no other to ask. */
  #mayAsk(): boolean {
    const { guard, mirror } = this.#context;
    return guard.view().alive && mirror.state?.initialization.value.kind === "initialized";
  }

  async #ask(lease: LeaseRecord, waitMs: number): Promise<void> {
    const { keeper, settings, clock, peers, mirror, options } = this.#context;
    const successors = keeper.successors();
    if (successors === null) {
      this.#refused("the lease does not say who could take over");
      return;
    }
    const { ttlMs } = settings();
    const grant: Grant = { holder: options.node, token: lease.token, holdMs: ttlMs };
    // Counted from before the first question is sent, as a renewal is (P2).
    const sent = clock.now();
    const asked = { sent, bootOffset: clock.bootMs() - sent, holdMs: grant.holdMs };
    const answers = await Promise.all(
      successors.map(async (name): Promise<string | null> => {
        const node = mirror.state?.nodes.get(name)?.value;
        if (node === undefined) return `${name} is not known`;
        const refusal = await peers.grant(node, grant, waitMs);
        return refusal === null ? null : `${name}: ${refusal}`;
      }),
    );
    const refusals = answers.filter((answer) => answer !== null);
    if (refusals.length > 0) this.#refused(refusals.join("; "));
    else if (keeper.extend(lease.token, successors, asked)) this.#began(sent, successors);
  }

  #began(sent: Instant, successors: readonly NodeName[]): void {
    const { journal, wake } = this.#context;
    this.#askedAt = sent;
    this.#refusals = "";
    if (this.#active) return;
    this.#active = true;
    const who =
      successors.length === 0 ? "no other node is registered" : `granted by ${successors.join(", ")}`;
    journal.event("failsafe_began", true, `leading on without the DCS: ${who}`, {
      granted_by: successors.join(", "),
    });
    wake();
  }

  #refused(why: string): void {
    const { journal, log, wake } = this.#context;
    if (this.#refusals === "" && !this.#active)
      journal.event(
        "failsafe_refused",
        false,
        `not everybody lets this node lead on without the DCS: ${why}`,
      );
    if (this.#refusals !== why) log("warn", "failsafe.refused", { why });
    this.#refusals = why;
    wake();
  }

  /** The need is over: the lease was renewed, or is this node's no more. */
  #end(renewed: boolean): void {
    const why = this.#refusals;
    this.#refusals = "";
    this.#askedAt = null;
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
