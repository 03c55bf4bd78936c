import { awayAfterMs } from "../cluster/policy.ts";
import { minLsn, type Lsn } from "../values/lsn.ts";
import { slotNameOf } from "../values/names.ts";
import { elapsedMs, type Instant } from "../values/time.ts";
import type { PostgresFacts } from "../postgres/instance.ts";
import { encodePatroniHistory, keys } from "../dcs/layout.ts";
import { dcsTimeoutMs, type AgentContext } from "./context.ts";
import { nearestArchive, tendSpool } from "./local-archive.ts";
import { postgresSettings } from "./postgres-settings.ts";
import { ReceiverSlots } from "./receiver-slots.ts";
import { openStaleGate } from "./router-gate.ts";

const everyMs = 5000;
/** A router that died is called out for so long. */
const routerForgottenMs = 24 * 3_600_000;
/** A copy that has streamed for this long is proven. */
const provenAfterMs = 60_000;

/**
 * The small things a running node needs from time to time: the slots of the other members (on every node that may lead, so
 * that they survive a failover), the settings in force, and which WAL is still here. Never in the way of a round.
 */
export class Upkeep {
  readonly #context: AgentContext;
  readonly #lastSeen = new Map<string, Instant>();
  readonly #receiverSlots: ReceiverSlots;
  #running = false;
  #forgotten = false;
  #lastRun: Instant | null = null;
  #members = "";
  #settings = "";
  /** What the text of the settings was made of, which is asked for in every round. */
  #textFrom: readonly unknown[] = [];
  #lastText = "";

  constructor(context: AgentContext) {
    this.#context = context;
    this.#receiverSlots = new ReceiverSlots(context);
  }

  /** Begins the upkeep that is due; returns at once. */
  tend(facts: PostgresFacts): void {
    tendSpool(this.#context);
    if (
      this.#running ||
      facts.kind !== "running" ||
      facts.sql === null ||
      this.#context.notebook.operation !== null
    )
      return;
    const now = this.#context.clock.now();
    const state = this.#context.mirror.state;
    const members = [...(state?.nodes.keys() ?? []), ...(state?.receivers.keys() ?? [])].join(",");
    const settings = this.#text();
    const version = this.#context.mirror.state?.settings.version ?? 0;
    const changed =
      members !== this.#members ||
      settings !== this.#settings ||
      version !== this.#context.notebook.appliedSettings;
    if (!changed && this.#lastRun !== null && elapsedMs(this.#lastRun, now) < everyMs) return;
    this.#members = members;
    this.#lastRun = now;
    this.#running = true;
    this.#receiverSlots.observe(facts.sql);
    void this.#work(facts.sql.inRecovery, facts.sql.replayedLsn ?? facts.sql.lsn)
      .catch((thrown: unknown) => {
        this.#lastRun = null;
        this.#context.log("debug", "upkeep.failed", {
          message: thrown instanceof Error ? thrown.message : String(thrown),
        });
      })
      .finally(() => (this.#running = false));
  }

  async #work(inRecovery: boolean, replayed: Lsn): Promise<void> {
    const { instance, notebook } = this.#context;
    await this.#applySettings();
    if (!inRecovery) {
      await this.#forgetAway();
      await this.#repairMirrors();
      if (this.#context.mirror.state?.gate.value != null) await openStaleGate(this.#context);
    }
    await instance.syncSlots(this.#wantedSlots(inRecovery, replayed), this.#receiverSlots.evicted());
    notebook.oldestWalLsn = await instance.oldestWalLsn();
    await this.#forgetRetired();
  }

  /** What the settings say, apart from what the durability keeper decides. */
  #text(): string {
    const { settings, options, archive } = this.#context;
    const from = [settings(), options, archive.commands, nearestArchive(this.#context) === null];
    if (from.every((value, index) => value === this.#textFrom[index])) return this.#lastText;
    this.#textFrom = from;
    this.#lastText = JSON.stringify({
      ...postgresSettings(this.#context),
      synchronousStandbyNames: "",
      admission: "",
    });
    return this.#lastText;
  }

  /** Brings PostgreSQL's configuration to the settings in force; after a start of the agent also what was missed meanwhile. */
  async #applySettings(): Promise<void> {
    const { instance, notebook, journal, mirror } = this.#context;
    const version = mirror.state?.settings.version ?? 0;
    const text = this.#text();
    if (text !== this.#settings) {
      const pending = await notebook.configure(() => instance.applySettings(postgresSettings(this.#context)));
      const message = pending ? "settings applied; a restart is pending" : "settings applied";
      if (this.#settings !== "")
        journal.event("settings_changed", true, message, { pending_restart: pending });
      this.#settings = text;
    }
    if (notebook.appliedSettings === version) return;
    notebook.appliedSettings = version;
    this.#context.wake();
  }

  /** A node that has streamed for a while has proven its copy: of what was set aside before, the last is kept (I6). */
  async #forgetRetired(): Promise<void> {
    const { notebook, instance, clock } = this.#context;
    const since = notebook.streamingSince;
    if (since === null) this.#forgotten = false;
    if (this.#forgotten || since === null || elapsedMs(since, clock.now()) < provenAfterMs) return;
    await instance.forgetRetired();
    notebook.seedFailed = false;
    this.#forgotten = true;
  }

  /**
   * Outside tools take a member key for a living node: the leader removes those of nodes that are not heard any more; and the
   * records of routers that were not stopped in order and did not come back.
   */
  async #forgetAway(): Promise<void> {
    const { mirror, options, settings, clock, dcs } = this.#context;
    const now = clock.now();
    const routers = [...(mirror.state?.routers.keys() ?? [])].filter(
      (router) => mirror.routerHeardMs(router, now) > routerForgottenMs,
    );
    const gone = [...(mirror.state?.nodes.keys() ?? [])].filter(
      (node) =>
        node !== options.node &&
        mirror.heardMs(node, now) > awayAfterMs(settings().ttlMs) * 2 &&
        mirror.entry(keys.member(node)) !== undefined,
    );
    if (gone.length === 0 && routers.length === 0) return;
    const writes = [
      ...gone.map((node) => keys.member(node)),
      ...routers.map((name) => keys.router(name)),
    ].map((key) => ({ key, value: null }));
    await dcs.transact({ checks: [], writes }, dcsTimeoutMs(settings().ttlMs));
  }

  /** What outside tools read of the leader is written again when somebody else changed it; no decision rests on it. */
  async #repairMirrors(): Promise<void> {
    const { mirror, options, settings, dcs, keeper } = this.#context;
    const standing = keeper.standing();
    if (mirror.state === null || standing.kind !== "mine" || standing.lease.state !== "serving") return;
    const { history } = mirror.state;
    const wanted = new Map<string, string>([[keys.leader, options.node]]);
    if (history.value.length > 0) wanted.set(keys.history, encodePatroniHistory(history.value));
    const writes = [...wanted]
      .filter(([key, value]) => mirror.entry(key)?.value !== value)
      .map(([key, value]) => ({ key, value }));
    if (writes.length > 0) await dcs.transact({ checks: [], writes }, dcsTimeoutMs(settings().ttlMs));
  }

  /**
   * A slot for every other member: on the leader where it stands (its member moves it), on a standby advanced to what the
   * member has, so that it keeps no more WAL than the member may still ask for. A node that only follows keeps those of
   * its own followers.
   */
  #wantedSlots(inRecovery: boolean, replayed: Lsn): ReadonlyMap<string, Lsn | null> {
    const { mirror, options, settings, clock } = this.#context;
    const now = clock.now();
    const { ttlMs, memberSlotsTtlMs } = settings();
    // Without the DCS nobody is heard, and nobody is away because of that.
    const blind = mirror.contact === null || elapsedMs(mirror.contact, now) >= awayAfterMs(ttlMs);
    const wanted = new Map<string, Lsn | null>();
    for (const { value } of mirror.state?.nodes.values() ?? []) {
      if (value.name === options.node) continue;
      if (blind || mirror.heardMs(value.name, now) < awayAfterMs(ttlMs)) this.#lastSeen.set(value.name, now);
      // A node that was away before this agent came is given its time anew.
      const seen = this.#lastSeen.get(value.name) ?? now;
      this.#lastSeen.set(value.name, seen);
      if (elapsedMs(seen, now) > memberSlotsTtlMs) continue;
      if (inRecovery && options.tags.nofailover && value.tags.replicatefrom !== options.node) continue;
      const streamsHere = value.upstream === options.node;
      const position = value.replayedLsn ?? value.lsn;
      wanted.set(
        slotNameOf(value.name),
        !inRecovery || streamsHere || position === null ? null : minLsn(position, replayed),
      );
    }
    return new Map([...wanted, ...this.#receiverSlots.wanted(inRecovery, replayed)]);
  }
}
