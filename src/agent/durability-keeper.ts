import {
  describeEntry,
  isFlushed,
  isProtected,
  namesToStartWith,
  nextDurabilityStep,
  releasesNothing,
  requiredIn,
  type DurabilityFacts,
  type SyncStandby,
} from "../cluster/durability.ts";
import type { DurabilityEntry } from "../cluster/records.ts";
import type { ClusterState } from "../cluster/state.ts";
import type { DcsWrite } from "../dcs/dcs.ts";
import { encodeRecord, keys } from "../dcs/layout.ts";
import { Fault, toFault } from "../values/fault.ts";
import type { Lsn } from "../values/lsn.ts";
import { nodeOfMember, type FencingToken, type Member } from "../values/names.ts";
import { elapsedMs, type Instant } from "../values/time.ts";
import { dcsTimeoutMs, type AgentContext } from "./context.ts";
import { postgresSettings } from "./postgres-settings.ts";
import { SyncStandbys } from "./sync-standbys.ts";

/** How often a leader looks at its standbys: a dead one must not hold commits up for a second. */
const lookMs = 250;
/** While a barrier is awaited or commits wait. */
const busyMs = 30;
/** Steps in one go; a change takes four. */
const stepLimit = 8;

/**
 * Keeps the durability record and PostgreSQL's synchronous_standby_names together while this node leads (S1 to S4): one
 * step after the other, each found again by whoever goes on.
 */
export class DurabilityKeeper {
  readonly #context: AgentContext;
  readonly #watch: SyncStandbys;
  #applied: { token: FencingToken; names: string; barrier: Lsn } | null = null;
  #expected: { token: FencingToken; members: ReadonlySet<Member> } | null = null;
  #working = false;
  #lastLook: Instant | null = null;
  #busy = false;
  #scheduled = false;
  #closed = false;

  constructor(context: AgentContext) {
    this.#context = context;
    this.#watch = new SyncStandbys(context);
  }

  close(): void {
    this.#closed = true;
  }

  /** PostgreSQL was or will be started, stopped or promoted: what it holds must be proven anew. */
  forget(): void {
    this.#applied = null;
  }

  /** Looks and steps when it is time; called by every round of a leader, returns at once. */
  tend(): void {
    const { clock } = this.#context;
    const now = clock.now();
    if (this.#working) return;
    const dueMs = this.#lastLook === null ? 0 : this.#dueMs() - elapsedMs(this.#lastLook, now);
    if (dueMs > 0) {
      this.#schedule(dueMs);
      return;
    }
    this.#working = true;
    this.#lastLook = now;
    void this.#work()
      .catch((thrown: unknown) => {
        const fault = toFault(thrown);
        this.#applied = null;
        this.#context.log("warn", "durability.failed", { code: fault.code, message: fault.message });
      })
      .finally(() => {
        this.#working = false;
        this.#schedule(this.#dueMs());
      });
  }

  #dueMs(): number {
    return this.#busy ? busyMs : lookMs;
  }

  #schedule(ms: number): void {
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    this.#context.timers.after(ms, () => {
      this.#scheduled = false;
      if (!this.#closed && this.#leads() !== null) this.tend();
    });
  }

  /** The token under which this node serves; null = it does not. */
  #leads(): FencingToken | null {
    const standing = this.#context.keeper.standing();
    return standing.kind === "mine" && standing.lease.state === "serving" ? standing.lease.token : null;
  }

  async #work(): Promise<void> {
    const { instance, mirror, keeper, settings } = this.#context;
    for (let steps = 0; steps < stepLimit; steps += 1) {
      const token = this.#leads();
      const cluster = mirror.state;
      if (token === null || cluster === null || this.#context.notebook.operation !== null) return;
      const state = await instance.synchronousState();
      if (state === null) return;
      const standbys = this.#watch.update(token, this.#expectedAt(token, cluster), state);
      const facts = this.#facts(token, cluster, standbys);
      const step = nextDurabilityStep(facts);
      this.#busy = step.kind !== "settled" || state.waiting > 0;
      switch (step.kind) {
        case "settled":
          await this.#admit(facts);
          return;
        case "barrier":
          return;
        case "apply":
          await this.#apply(token, step.names);
          break;
        case "record":
          // Without the DCS the record stays as it is, and what a dead standby holds up waits: who leads on by grants alone
          // may not decide who counts (failsafe).
          if ((keeper.unrenewedMs() ?? Infinity) > settings().ttlMs / 2) return;
          if (!(await this.#record(cluster, step.entries, step.why))) return;
          break;
      }
    }
  }

  #facts(token: FencingToken, cluster: ClusterState, standbys: readonly SyncStandby[]): DurabilityFacts {
    const { membership, settings } = this.#context;
    return {
      primary: membership.member,
      token,
      policy: settings().durability,
      record: cluster.durability.value,
      standbys,
      applied: this.#applied?.token === token ? this.#applied : null,
    };
  }

  /** Who was recorded when the token began: they are given a moment to connect. */
  #expectedAt(token: FencingToken, cluster: ClusterState): ReadonlySet<Member> {
    if (this.#expected?.token !== token) {
      const members = new Set(cluster.durability.value.flatMap((entry) => entry.members));
      this.#expected = { token, members };
    }
    return this.#expected.members;
  }

  /** S2. */
  async #apply(token: FencingToken, names: string): Promise<void> {
    const { instance, notebook, journal } = this.#context;
    const before = this.#applied?.names ?? null;
    // A change of W alone is not visible in a walsender; one from or to names that release nothing is.
    const isVisible = before === null || releasesNothing(before) || releasesNothing(names);
    const dropSenders = !isVisible && requiredIn(before) !== requiredIn(names) && requiredIn(names) > 0;
    if (before === null || formOf(before) !== formOf(names)) this.#watch.expectReconnects();
    this.#applied = null;
    const barrier = await notebook.configure(async () => {
      notebook.synchronousNames = names;
      return instance.applySynchronous(postgresSettings(this.#context), { dropSenders });
    });
    this.#applied = { token, names, barrier };
    if (before !== names)
      journal.event("durability_changed", true, `commits wait for ${names || "nobody"}`, { names });
  }

  /** S1, S4: compares the holder, the token and the record's version in one transaction. @returns whether it took effect */
  async #record(cluster: ClusterState, wanted: readonly DurabilityEntry[], why: string): Promise<boolean> {
    const { keeper, mirror, settings, journal, log, clock } = this.#context;
    const entries = wanted.map((entry) => ({ ...entry, since: entry.since ?? clock.wall() }));
    const wasProtected = isProtected(cluster.durability.value);
    const done = await keeper.change((lease) => lease, {
      checks: [{ key: keys.durability, version: cluster.durability.version }],
      writes: durabilityWrites(entries),
    });
    log("info", "durability.record", { done, why, entries: entries.map(describeEntry) });
    if (!done) {
      await mirror.refresh(dcsTimeoutMs(settings().ttlMs));
      return false;
    }
    await this.#seen(entries);
    const isNow = isProtected(entries);
    if (wasProtected !== isNow && settings().durability.mode !== "async")
      journal.event(
        isNow ? "protected" : "unprotected",
        isNow,
        isNow
          ? `every commit is on a standby too (${entries.map(describeEntry).join("; ")})`
          : "no standby holds what is committed now: the loss of this node would lose it",
      );
    return true;
  }

  /** Until this node's own picture has what it wrote. */
  async #seen(entries: readonly DurabilityEntry[]): Promise<void> {
    const { mirror, settings } = this.#context;
    const text = encodeRecord(entries);
    if (mirror.entry(keys.durability)?.value !== text) await mirror.refresh(dcsTimeoutMs(settings().ttlMs));
    if (mirror.entry(keys.durability)?.value !== text)
      throw new Fault("DCS_CONFLICT", "The durability record was changed by somebody else.");
  }

  /** P6: what was not known to be safe after a crash is now; clients may come. */
  async #admit(facts: DurabilityFacts): Promise<void> {
    const { membership, notebook, instance, journal } = this.#context;
    if (!membership.closed) return;
    this.#busy = true;
    if (!isFlushed(facts)) return;
    await notebook.configure(async () => {
      await membership.setClosed(false);
      await instance.applySettings(postgresSettings(this.#context));
    });
    journal.event(
      "clients_admitted",
      true,
      "all WAL from before the crash is safe again: clients are let in",
    );
  }
}

/** How many are waited for and how they are chosen: what walsenders are ended for when it changes. */
function formOf(names: string): string {
  return names.slice(0, Math.max(0, names.indexOf(" (")));
}

/** The names to start or promote with (P6), from the record as it stands and for the token held. */
export function startingNames(context: AgentContext, token: FencingToken): string {
  const { membership, settings, mirror } = context;
  return namesToStartWith({
    primary: membership.member,
    token,
    policy: settings().durability,
    record: mirror.state?.durability.value ?? [],
    standbys: [],
  });
}

/** The record, and what the field's tools read of it under `sync`. */
export function durabilityWrites(entries: readonly DurabilityEntry[]): DcsWrite[] {
  const last = entries.at(-1);
  const names = last?.members.map(nodeOfMember) ?? [];
  const sync =
    last === undefined || last.required === 0
      ? { leader: last === undefined ? null : nodeOfMember(last.primary), sync_standby: null, quorum: 0 }
      : {
          leader: nodeOfMember(last.primary),
          sync_standby: names.join(","),
          quorum: last.members.length - last.required,
        };
  return [
    { key: keys.durability, value: encodeRecord(entries) },
    { key: keys.sync, value: JSON.stringify(sync) },
  ];
}
