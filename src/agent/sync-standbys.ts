import { awayAfterMs } from "../cluster/policy.ts";
import { mayBecomePrimary, mayStream } from "../cluster/candidates.ts";
import type { SyncStandby } from "../cluster/durability.ts";
import { receiverMember, receiversOf } from "../cluster/receivers.ts";
import type { NodeRecord, ReceiverRecord, Tags } from "../cluster/records.ts";
import type { ClusterState } from "../cluster/state.ts";
import type { SynchronousState } from "../postgres/instance.ts";
import type { Lsn } from "../values/lsn.ts";
import { memberOf, replicationName, type FencingToken, type Member, type NodeName } from "../values/names.ts";
import { elapsedMs, type Instant } from "../values/time.ts";
import type { AgentContext } from "./context.ts";

/** How long a standby that was there may be without a connection before it stops counting. */
const reconnectMs = 400;
/** The same after a change of token, and after a change of W ended the walsenders: then every standby connects anew. */
const firstConnectMs = 1500;
/** Commits wait and a standby shows no progress: from here on its agent is asked. */
const stallMs = 350;
/** A standby that lives but makes no progress is given up after this. */
const stallLimitMs = 5000;
const pulseMs = 250;
/** How long commits wait for a WAL receiver that is gone or stands still: one that was ended is back by then. */
const receiverBackMs = 1400;

const nobody = { receivers: new Map<NodeName, never>(), nodes: new Map<NodeName, never>() };

interface Seen {
  connected: boolean;
  since: Instant;
  /** It was cut off here on purpose, and is given the time to come back. */
  cutOffAt: Instant | null;
  flushLsn: Lsn;
  progress: Instant;
  /** What its agent said when it was asked during a stall. */
  dead: boolean;
  asking: boolean;
}

/** Whether the tags let a node count for durability. */
export function mayCount(tags: Tags): boolean {
  return !tags.nosync && mayBecomePrimary(tags) && mayStream(tags) && syncPriority(tags) > 0;
}

function syncPriority(tags: Tags): number {
  const value = tags.free["sync_priority"];
  return typeof value === "number" ? value : 1;
}

/** A node as a standby that counts, or may count in a moment. */
function asSyncStandby(node: NodeRecord, usable: boolean, flushLsn: Lsn): SyncStandby {
  return {
    member: memberOf(node.name, node.incarnation),
    flushLsn,
    usable,
    priority: syncPriority(node.tags),
  };
}

/** The standbys that a new holder waits for at first: those that are there and will connect in a moment (F4). */
export function expectedStandbys(
  context: AgentContext,
  state: ClusterState,
  counts: (node: NodeRecord) => boolean,
): readonly SyncStandby[] {
  const { options, mirror, clock, settings } = context;
  const now = clock.now();
  return [...state.nodes.values()]
    .map(({ value }) => value)
    .filter((node) => node.name !== options.node && mayCount(node.tags) && counts(node))
    .filter((node) => mirror.heardMs(node.name, now) <= awayAfterMs(settings().ttlMs))
    .map((node) => asSyncStandby(node, true, 0n as Lsn));
}

/** Receivers that a new holder waits for at first: those that promised with it, else those that streamed a moment ago (F4). */
export function expectedReceivers(
  context: AgentContext,
  state: ClusterState,
  counts: (receiver: ReceiverRecord) => boolean,
): readonly SyncStandby[] {
  const { mirror, clock, settings } = context;
  const now = clock.now();
  return receiversOf(state)
    .filter((receiver) => receiver.synchronous && counts(receiver))
    .filter((receiver) => mirror.receiverHeardMs(receiver.name, now) <= awayAfterMs(settings().ttlMs))
    .map((receiver) => asReserve(receiver, true, 0n as Lsn));
}

function asReserve(receiver: ReceiverRecord, usable: boolean, flushLsn: Lsn): SyncStandby {
  return { member: receiverMember(receiver), flushLsn, usable, priority: 1, reserve: true };
}

/** Watches the standbys that stream from here: which of them count now. */
export class SyncStandbys {
  readonly #context: AgentContext;
  readonly #seen = new Map<Member, Seen>();
  #token: FencingToken | null = null;
  #tokenSince: Instant;

  constructor(context: AgentContext) {
    this.#context = context;
    this.#tokenSince = context.clock.now();
  }

  /** The walsenders are ended for a change of W (S2): who is connected now will be back. */
  expectReconnects(): void {
    const now = this.#context.clock.now();
    for (const seen of this.#seen.values()) if (seen.connected) seen.cutOffAt = now;
  }

  /** Takes in what PostgreSQL shows, and tells who counts. `expected`: those recorded when the token began. */
  update(
    token: FencingToken,
    expected: ReadonlySet<Member>,
    state: SynchronousState,
  ): readonly SyncStandby[] {
    const { mirror, options, clock } = this.#context;
    const now = clock.now();
    if (token !== this.#token) {
      this.#token = token;
      this.#tokenSince = now;
      this.#seen.clear();
    }
    const standbys: SyncStandby[] = [];
    for (const { value: node } of mirror.state?.nodes.values() ?? []) {
      if (node.name === options.node) continue;
      const member = memberOf(node.name, node.incarnation);
      const name = replicationName(member, token);
      const connection = state.standbys.find((standby) => standby.applicationName === name);
      const seen = this.#note(member, connection, now);
      const usable = mayCount(node.tags) && this.#counts(node, seen, expected.has(member), state, now);
      standbys.push(asSyncStandby(node, usable, seen?.flushLsn ?? (0n as Lsn)));
    }
    for (const receiver of receiversOf(mirror.state ?? nobody)) {
      const member = receiverMember(receiver);
      const name = replicationName(member, token);
      const connection = state.standbys.find((standby) => standby.applicationName === name);
      const seen = this.#note(member, connection, now);
      const counts = this.#receiverCounts(seen, expected.has(member), state, now);
      standbys.push(asReserve(receiver, receiver.synchronous && counts, seen?.flushLsn ?? (0n as Lsn)));
    }
    return standbys;
  }

  /** There is no agent to ask: a receiver that is gone, or makes no progress while commits wait, is given up soon. */
  #receiverCounts(seen: Seen | null, expected: boolean, state: SynchronousState, now: Instant): boolean {
    if (seen === null) return expected && elapsedMs(this.#tokenSince, now) < firstConnectMs;
    const cutOff = seen.cutOffAt !== null && elapsedMs(seen.cutOffAt, now) < firstConnectMs;
    if (!seen.connected) return cutOff || elapsedMs(seen.since, now) < receiverBackMs;
    if (seen.dead) return false;
    if (state.waiting === 0 || seen.flushLsn >= state.flushedLsn) seen.progress = now;
    else if (elapsedMs(seen.progress, now) >= receiverBackMs) seen.dead = true;
    return !seen.dead;
  }

  #note(
    member: Member,
    connection: SynchronousState["standbys"][number] | undefined,
    now: Instant,
  ): Seen | null {
    let seen = this.#seen.get(member) ?? null;
    const connected = connection?.streaming === true;
    const flushLsn = connection?.flushLsn ?? (0n as Lsn);
    if (seen === null) {
      if (!connected) return null;
      seen = { connected, since: now, flushLsn, cutOffAt: null, progress: now, dead: false, asking: false };
      this.#seen.set(member, seen);
      return seen;
    }
    if (seen.connected !== connected) {
      seen.connected = connected;
      seen.since = now;
      seen.progress = now;
      seen.dead = false;
    }
    if (connected && flushLsn !== seen.flushLsn) {
      seen.flushLsn = flushLsn;
      seen.progress = now;
      seen.dead = false;
    }
    return seen;
  }

  #counts(
    node: NodeRecord,
    seen: Seen | null,
    expected: boolean,
    state: SynchronousState,
    now: Instant,
  ): boolean {
    if (seen === null) return expected && elapsedMs(this.#tokenSince, now) < firstConnectMs;
    const cutOff = seen.cutOffAt !== null && elapsedMs(seen.cutOffAt, now) < firstConnectMs;
    if (!seen.connected) return cutOff || elapsedMs(seen.since, now) < reconnectMs;
    const behind = state.waiting > 0 && seen.flushLsn < state.flushedLsn;
    // One found dead has to show progress first: that nobody waits for it any more is no sign of life.
    if (seen.dead) return false;
    if (!behind) {
      seen.progress = now;
      return true;
    }
    const stalled = elapsedMs(seen.progress, now);
    if (stalled < stallMs) return true;
    if (!seen.asking) void this.#ask(node, seen);
    if (stalled >= stallLimitMs) seen.dead = true;
    return !seen.dead;
  }

  /** Whether a standby that makes no progress lives: its agent knows, and one that does not answer is gone too. */
  async #ask(node: NodeRecord, seen: Seen): Promise<void> {
    seen.asking = true;
    const { peers, timers } = this.#context;
    const since = seen.progress;
    const pulse = await peers.pulse(node, pulseMs).catch(() => null);
    if (seen.progress === since && (pulse === null || !pulse.postgres)) seen.dead = true;
    else await timers.sleep(pulseMs);
    seen.asking = false;
  }
}
