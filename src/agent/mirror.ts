import type { Ballot, NodeRecord, ReceiverRecord } from "../cluster/records.ts";
import type { ClusterState, Versioned } from "../cluster/state.ts";
import type { Dcs, DcsEntry, DcsSnapshot, DcsWatch } from "../dcs/dcs.ts";
import { StateDecoder } from "../dcs/layout.ts";
import type { Clock } from "../system/clock.ts";
import type { NodeName } from "../values/names.ts";
import { elapsedMs, type Instant } from "../values/time.ts";

/** A renewal of the lease and when this node first saw it: an observer times the lease from here (P2). */
export interface Sighting {
  readonly version: number;
  readonly firstSeen: Instant;
}

/**
 * This node's copy of the cluster's keys, kept by the watch, with the ages a decision needs. A hint, never a proof: what is
 * done because of it compares versions in the store.
 */
export class DcsMirror {
  readonly #dcs: Dcs;
  readonly #clock: Clock;
  readonly #wake: () => void;
  readonly #decoder = new StateDecoder();
  readonly #heard = new Map<NodeName, { sequence: number; at: Instant; ahead: number | null }>();
  readonly #routersHeard = new Map<string, { sequence: number; id: string; at: Instant }>();
  readonly #receiversHeard = new Map<string, { sequence: number; id: string; at: Instant }>();
  #entries = new Map<string, DcsEntry>();
  #state: ClusterState | null = null;
  #lease: Sighting | null = null;
  #contact: Instant | null = null;
  #essence = "";
  #watch: DcsWatch | null = null;

  constructor(dcs: Dcs, clock: Clock, wake: () => void) {
    this.#dcs = dcs;
    this.#clock = clock;
    this.#wake = wake;
  }

  open(): void {
    this.#watch = this.#dcs.watch((event) => {
      switch (event.kind) {
        case "snapshot":
          // Also one of a smaller revision: the store was put back from a backup, and the watch continues from there.
          this.#replace(event.snapshot);
          return;
        case "changes": {
          if (this.#state !== null && event.revision <= this.#state.revision) {
            this.touch(); // a read was ahead of the watch and has it already
            return;
          }
          for (const [key, entry] of event.changes) {
            if (entry === null) this.#entries.delete(key);
            else this.#entries.set(key, entry);
          }
          this.#changed(event.revision);
          return;
        }
        case "alive":
          this.touch();
          return;
        case "lost":
          this.#wake();
          return;
      }
    });
  }

  close(): void {
    this.#watch?.close();
  }

  /** Replaces all that was known by a linearizable read, unless the watch is already past it. */
  absorb(snapshot: DcsSnapshot): void {
    if (this.#state !== null && snapshot.revision < this.#state.revision) {
      this.touch();
      return;
    }
    this.#replace(snapshot);
  }

  #replace(snapshot: DcsSnapshot): void {
    this.#entries = new Map(snapshot.entries);
    this.#changed(snapshot.revision);
  }

  /** Reads everything linearizably and returns the decoded state. @throws Fault DCS_UNREACHABLE */
  async refresh(timeoutMs: number): Promise<ClusterState> {
    const snapshot = await this.#dcs.read(timeoutMs);
    this.absorb(snapshot);
    return this.#state ?? this.#decode(snapshot.revision);
  }

  /** Notes a sign of life of the store. */
  touch(): void {
    this.#contact = this.#clock.now();
  }

  get state(): ClusterState | null {
    return this.#state;
  }

  /** The value of one key as last seen. */
  entry(key: string): DcsEntry | undefined {
    return this.#entries.get(key);
  }

  /** The keys below a prefix, as last seen. */
  keysBelow(prefix: string): string[] {
    return [...this.#entries.keys()].filter((key) => key.startsWith(prefix));
  }

  get leaseSighting(): Sighting | null {
    return this.#lease;
  }

  /** When the store was last heard; null = never. */
  get contact(): Instant | null {
    return this.#contact;
  }

  /** Milliseconds since the node's record last grew; Infinity = not since this agent started. */
  heardMs(node: NodeName, now: Instant): number {
    const heard = this.#heard.get(node);
    return heard === undefined ? Infinity : elapsedMs(heard.at, now);
  }

  /** Milliseconds since the router's record last grew; Infinity = there is none. */
  routerHeardMs(router: string, now: Instant): number {
    const heard = this.#routersHeard.get(router);
    return heard === undefined ? Infinity : elapsedMs(heard.at, now);
  }

  /** Milliseconds since the WAL receiver's record last grew; Infinity = there is none. */
  receiverHeardMs(receiver: string, now: Instant): number {
    const heard = this.#receiversHeard.get(receiver);
    return heard === undefined ? Infinity : elapsedMs(heard.at, now);
  }

  /** How far the node's civil clock was ahead of this one's (negative: behind) when its record last came; null = unknown. */
  clockAheadMs(node: NodeName): number | null {
    return this.#heard.get(node)?.ahead ?? null;
  }

  #decode(revision: number): ClusterState {
    return this.#decoder.decode(revision, this.#entries);
  }

  #changed(revision: number): void {
    const now = this.#clock.now();
    this.#contact = now;
    this.#state = this.#decode(revision);
    if (this.#lease?.version !== this.#state.lease.version)
      this.#lease = { version: this.#state.lease.version, firstSeen: now };
    for (const [name, { value }] of this.#state.nodes) {
      const heard = this.#heard.get(name);
      // What stood there before this agent came says nothing about who lives now; it counts as heard once, for a while.
      if (heard?.sequence === value.sequence) continue;
      // Only a record that came while this agent watched tells how far the clocks are apart.
      const ahead = heard === undefined ? null : Date.parse(value.writtenAt) - Date.parse(this.#clock.wall());
      this.#heard.set(name, { sequence: value.sequence, at: now, ahead });
    }
    for (const name of this.#heard.keys()) if (!this.#state.nodes.has(name)) this.#heard.delete(name);
    hear(this.#routersHeard, this.#state.routers, (router) => router.routerId, now);
    hear(this.#receiversHeard, this.#state.receivers, (receiver) => receiver.receiverId, now);
    const essence = essenceOf(this.#state);
    if (essence === this.#essence) return;
    this.#essence = essence;
    this.#wake();
  }
}

/** Notes which of these records has grown, or is of another process than before. */
function hear<T extends { readonly sequence: number }>(
  heard: Map<string, { sequence: number; id: string; at: Instant }>,
  records: ReadonlyMap<string, Versioned<T>>,
  idOf: (record: T) => string,
  at: Instant,
): void {
  for (const [name, { value }] of records) {
    const last = heard.get(name);
    if (last?.sequence === value.sequence && last.id === idOf(value)) continue;
    heard.set(name, { sequence: value.sequence, id: idOf(value), at });
  }
  for (const name of heard.keys()) if (!records.has(name)) heard.delete(name);
}

/** What a round would decide differently from: not renewals, heartbeats and positions, which come many times a second. */
function essenceOf(state: ClusterState): string {
  const lease = state.lease.value;
  const parts: (string | number)[] = [
    lease === null ? "" : `${lease.holder} ${lease.token} ${lease.state} ${lease.ttlMs}`,
    state.initialization.version,
    state.durability.version,
    state.move.version,
    state.moveOutcome.version,
    state.settings.version,
    state.gate.version,
    state.recovery?.version ?? 0,
  ];
  for (const { value } of state.nodes.values()) parts.push(essenceOfNode(value));
  for (const { value } of state.receivers.values()) parts.push(essenceOfReceiver(value));
  return parts.join("|");
}

const essenceOfNode = remembered((node: NodeRecord) =>
  [
    node.name,
    node.state,
    node.role,
    node.timeline,
    node.streaming,
    node.upstream,
    node.systemIdentifier,
    node.incarnation,
    node.promised,
    node.suspects,
    ballotText(node.ballot),
  ].join(" "),
);

const essenceOfReceiver = remembered((receiver: ReceiverRecord) =>
  [
    receiver.name,
    receiver.state,
    receiver.upstream,
    receiver.token,
    receiver.incarnation,
    receiver.synchronous,
    receiver.promised,
    receiver.suspects,
    ballotText(receiver.ballot),
  ].join(" "),
);

/** Of many records one changes at a time. */
function remembered<T extends object>(textOf: (record: T) => string): (record: T) => string {
  const texts = new WeakMap<T, string>();
  return (record) => {
    let text = texts.get(record);
    if (text === undefined) texts.set(record, (text = textOf(record)));
    return text;
  };
}

function ballotText(ballot: Ballot | null): string {
  return ballot === null ? "" : `${ballot.token}@${ballot.lsn} ${ballot.recordVersion}`;
}
