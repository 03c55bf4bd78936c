import { dcsTimeoutMs, type Log } from "../../agent/context.ts";
import { DcsMirror } from "../../agent/mirror.ts";
import type { Peers } from "../../agent/peers.ts";
import { Suspicion } from "../../agent/suspicion.ts";
import { isLost } from "../../cluster/early-failover.ts";
import { clockDrift } from "../../cluster/policy.ts";
import type { Ballot, LeaseRecord, ReceiverRecord, ReceiverState } from "../../cluster/records.ts";
import { isAncestor, type Fork } from "../../cluster/rejoin.ts";
import { parseClusterSettings, type ClusterSettings } from "../../config/cluster-settings.ts";
import type { Dcs } from "../../dcs/dcs.ts";
import type { ClusterState } from "../../cluster/state.ts";
import type { Clock } from "../../system/clock.ts";
import type { Random } from "../../system/random.ts";
import type { Timer, Timers } from "../../system/timers.ts";
import { Fault, toFault, type FaultReport } from "../../values/fault.ts";
import type { Lsn } from "../../values/lsn.ts";
import {
  memberOf,
  replicationName,
  slotNameOf,
  type FencingToken,
  type Member,
  type NodeName,
  type SystemIdentifier,
  type Timeline,
} from "../../values/names.ts";
import { elapsedMs, type WallTime } from "../../values/time.ts";
import type { KeptMembership } from "./kept.ts";
import { isRival, RecordWriter } from "./record-writer.ts";
import { nextStep, type MemberStep, type ReceiverStanding } from "./step.ts";

/** What a receiver is told when it starts. */
export interface ReceiverMemberOptions {
  readonly name: NodeName;
  readonly version: string;
  readonly host: string;
  /** The backup server's HTTP API, without a closing slash: agents fetch WAL there. null = it serves none. */
  readonly apiUrl: string | null;
  /** Whether commits may wait for this receiver. */
  readonly synchronous: boolean;
}

export interface ReceiverMemberPorts {
  readonly dcs: Dcs;
  readonly peers: Peers;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  /** Opened by the receiver before anything else, beside the received WAL. */
  readonly kept: KeptMembership;
}

/** The receiving end, as the member steers it. */
export interface ReceivingEnd {
  /** Resolves when the stream has ended and nothing of it is written or acknowledged any more. Harmless when there is none. */
  stop(): Promise<void>;
  /** The end of the valid WAL that is durable here; null = there is none yet. It does not grow after `stop`. */
  position(): { readonly timeline: Timeline; readonly lsn: Lsn } | null;
}

/** Where to stream from. A new object for every change of holder or token. */
export interface StreamTarget {
  readonly node: NodeName;
  readonly host: string;
  readonly port: number;
  readonly token: FencingToken;
  /** false: it was elected and is still a standby; it promotes in a moment. */
  readonly serving: boolean;
  /** The timeline it serves, or was given to promote to. */
  readonly timeline: Timeline;
  /** The replication slot its agent keeps for this receiver. */
  readonly slot: string;
}

/** What a server says of its history, from IDENTIFY_SYSTEM and TIMELINE_HISTORY. */
export interface ServerHistory {
  readonly timeline: Timeline;
  readonly lsn: Lsn;
  readonly forks: readonly Fork[];
}

/** What the receiver tells of itself besides its position; all of it may change at any time. */
export interface ReceiverFacts {
  readonly state: Exclude<ReceiverState, "promised">;
  readonly systemIdentifier: SystemIdentifier | null;
  /** The node it streams from; null = none. */
  readonly upstream: NodeName | null;
  /** The token under whose proven name it streams; null = under its plain name, or not at all. */
  readonly token: FencingToken | null;
  readonly archivedLsn: Lsn | null;
  readonly lastBackupAt: WallTime | null;
  readonly lastDrillAt: WallTime | null;
  readonly gap: ReceiverRecord["gap"];
  readonly problem: FaultReport | null;
}

/** How often what only time changes is looked at. */
const tickMs = 100;

/**
 * The WAL receiver as a member of the cluster: it tells where to stream from and under which name, promises (F2) and holds
 * to it (F9), and says of itself in the store what leaders and candidates need.
 */
export class ReceiverMember {
  readonly #options: ReceiverMemberOptions;
  readonly #ports: ReceiverMemberPorts;
  readonly #receiving: ReceivingEnd;
  readonly #mirror: DcsMirror;
  readonly #suspicion: Suspicion;
  readonly #writer: RecordWriter;
  readonly #listeners = new Set<(target: StreamTarget | null) => void>();
  readonly #receiverId: string;
  #settings: { version: number; value: ClusterSettings } | null = null;
  #target: StreamTarget | null = null;
  #ballot: Ballot | null = null;
  #facts: ReceiverFacts = nothingYet;
  #working = false;
  #again = false;
  #timer: Timer | null = null;
  #closed = false;
  #published = false;

  constructor(options: ReceiverMemberOptions, ports: ReceiverMemberPorts, receiving: ReceivingEnd) {
    this.#options = options;
    this.#ports = ports;
    this.#receiving = receiving;
    this.#receiverId = ports.random.uuid();
    this.#mirror = new DcsMirror(ports.dcs, ports.clock, () => this.#look());
    this.#suspicion = new Suspicion({
      options: { node: options.name },
      clock: ports.clock,
      timers: ports.timers,
      peers: ports.peers,
      mirror: this.#mirror,
      settings: () => this.settings(),
      wake: () => this.#look(),
    });
    this.#writer = new RecordWriter({
      dcs: ports.dcs,
      mirror: this.#mirror,
      clock: ports.clock,
      ttlMs: () => this.settings().ttlMs,
      log: ports.log,
    });
  }

  /** Begins to observe the lease. */
  open(): void {
    this.#mirror.open();
    this.#look();
  }

  /** Ends without taking the record away: it goes silent. */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#mirror.close();
    this.#listeners.clear();
  }

  /** Where to stream from now; null = from nobody. */
  get target(): StreamTarget | null {
    return this.#target;
  }

  /** This receiver with the incarnation of its WAL. */
  get member(): Member {
    return memberOf(this.#options.name, this.#ports.kept.incarnation);
  }

  /** The highest token promised or followed: WAL of a lower one is refused (F6, F9). */
  get promised(): FencingToken | null {
    return this.#ports.kept.promised;
  }

  /** The cluster as its records say; null = not read yet. */
  get cluster(): ClusterState | null {
    return this.#mirror.state;
  }

  /** Where another receiver of this name works, with other WAL; null = nowhere that is known. It was first, and stays. */
  get rival(): string | null {
    const record = this.#mirror.state?.receivers.get(this.#options.name)?.value;
    if (this.#published || record === undefined) return null;
    const heardMs = this.#mirror.receiverHeardMs(record.name, this.#ports.clock.now());
    return isRival(record, this.#ports.kept.incarnation, heardMs, this.settings().ttlMs) ? record.host : null;
  }

  /** The value of one key of the store as last seen, such as that of the secrets. */
  entry(key: string): string | null {
    return this.#mirror.entry(key)?.value ?? null;
  }

  /** The settings in force; defaults before the first contact. */
  settings(): ClusterSettings {
    const stored = this.#mirror.state?.settings ?? { value: null, version: 0 };
    if (this.#settings?.version !== stored.version)
      this.#settings = { version: stored.version, value: parseClusterSettings(stored.value).settings };
    return this.#settings.value;
  }

  /** Calls back with each change of the target. @returns stops that */
  onTarget(listener: (target: StreamTarget | null) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Takes over what the receiver says of itself; the record is written when that is due. */
  report(facts: ReceiverFacts): void {
    this.#facts = facts;
    this.#look();
  }

  /** The WAL here does not continue what was there (a gap was left, or it was put aside): another member from now on. */
  async renew(): Promise<void> {
    await this.#ports.kept.renew();
    this.#look();
  }

  /**
   * S5: the name to ask the target for WAL under. The proven one, which commits may wait for, only when this receiver counts at
   * all and its WAL, at rest, is a beginning of the target's: by the lease alone (`history` null), or by the server's history.
   * @returns null when only the history can tell
   * @throws Fault BACKUP_WAL_STALE when the target is not that of now any more
   */
  applicationName(target: StreamTarget, history: ServerHistory | null): string | null {
    const lease = this.#mirror.state?.lease.value ?? null;
    if (this.#target?.token !== target.token || lease?.token !== target.token)
      throw new Fault("BACKUP_WAL_STALE", `${target.node} does not lead with token ${target.token} any more`);
    if (!this.#options.synchronous) return this.#options.name;
    const position = this.#receiving.position();
    const proven = replicationName(this.member, target.token);
    const { origin } = lease;
    if (position === null) return proven;
    if (origin !== null && position.timeline === origin.timeline && position.lsn <= origin.lsn) return proven;
    if (history === null) return null;
    return isAncestor(position, history) ? proven : this.#options.name;
  }

  #look(): void {
    if (this.#closed) return;
    if (this.#working) {
      this.#again = true;
      return;
    }
    this.#working = true;
    this.#timer?.cancel();
    void this.#work()
      .catch((thrown: unknown) =>
        this.#ports.log("warn", "receiver.member_failed", { ...toFault(thrown).report() }),
      )
      .finally(() => {
        this.#working = false;
        if (this.#closed) return;
        const soon = this.#again;
        this.#again = false;
        this.#timer = this.#ports.timers.after(soon ? 1 : tickMs, () => this.#look());
      });
  }

  async #work(): Promise<void> {
    const cluster = this.#mirror.state;
    if (cluster === null) return;
    if (this.rival !== null) return;
    const lease = cluster.lease.value;
    this.#suspicion.observe(lease, this.#receiving.position()?.lsn ?? null);
    const step = this.#step(cluster);
    switch (step.kind) {
      case "follow":
        await this.#follow(cluster, step.lease);
        break;
      case "promise":
        await this.#promise(step.token);
        break;
      case "hold":
        if (this.#target !== null) this.#aim(null);
        break;
      case "stay":
        break;
    }
    this.#published = (await this.#writer.publish(this.#record())) || this.#published;
  }

  #step(cluster: ClusterState): MemberStep {
    return nextStep({
      cluster,
      standing: this.#standing(cluster),
      promised: this.#ports.kept.promised,
      ballot: this.#ballot,
    });
  }

  /** What the lease means on this clock (P2): it is timed from when its latest renewal was first seen. */
  #standing(cluster: ClusterState): ReceiverStanding {
    const lease = cluster.lease.value;
    const sighting = this.#mirror.leaseSighting;
    if (lease === null || sighting === null) return "none";
    if (lease.state === "released") return "released";
    const now = this.#ports.clock.now();
    if (elapsedMs(sighting.firstSeen, now) >= lease.ttlMs * (1 + clockDrift)) return "expired";
    const lost = isLost({
      lease,
      cluster,
      policy: this.settings(),
      member: this.member,
      suspected: this.#suspicion.suspects === lease.token,
      tokenSeenMs: this.#suspicion.tokenSeenMs(now),
      heardMs: (node) => this.#mirror.heardMs(node, now),
      receiverHeardMs: (receiver) => this.#mirror.receiverHeardMs(receiver, now),
    });
    return lost ? "lost" : "held";
  }

  async #follow(cluster: ClusterState, lease: LeaseRecord): Promise<void> {
    const node = cluster.nodes.get(lease.holder)?.value;
    if (node === undefined) return;
    // What is followed is kept like a promise, so that no lower token is ever followed again (F6).
    if ((this.#ports.kept.promised ?? -1) < lease.token) await this.#ports.kept.promise(lease.token);
    this.#ballot = null;
    const target: StreamTarget = {
      node: node.name,
      host: node.host,
      port: node.port,
      token: lease.token,
      serving: lease.state === "serving",
      timeline: lease.timeline,
      slot: slotNameOf(this.#options.name),
    };
    if (JSON.stringify(target) !== JSON.stringify(this.#target)) this.#aim(target);
  }

  /** F2, in this order: a linearizable look, the promise durable, the stream ended; then measures, and reports. */
  async #promise(token: FencingToken): Promise<void> {
    const { log, kept } = this.#ports;
    const cluster = await this.#mirror.refresh(dcsTimeoutMs(this.settings().ttlMs));
    const step = this.#step(cluster);
    if (step.kind !== "promise" || step.token !== token) return;
    await kept.promise(token);
    this.#aim(null);
    await this.#receiving.stop();
    const position = this.#receiving.position();
    if (position === null) return;
    this.#ballot = { token, ...position, recordVersion: step.recordVersion };
    log("info", "receiver.promised", { token, timeline: position.timeline, lsn: String(position.lsn) });
  }

  #aim(target: StreamTarget | null): void {
    this.#target = target;
    this.#ports.log("info", "receiver.target", { node: target?.node ?? null, token: target?.token ?? null });
    for (const listener of [...this.#listeners]) listener(target);
  }

  #record(): Omit<ReceiverRecord, "sequence" | "writtenAt"> {
    const { name, version, host, apiUrl, synchronous } = this.#options;
    const position = this.#receiving.position();
    const { problem, ...facts } = this.#facts;
    const token = this.#mirror.state?.lease.value?.token ?? null;
    const { promised } = this.#ports.kept;
    const isHeld = this.#ballot !== null || (promised !== null && token !== null && promised > token);
    const isNode = this.#mirror.state?.nodes.has(name) === true;
    return {
      ...facts,
      name,
      incarnation: this.#ports.kept.incarnation,
      receiverId: this.#receiverId,
      version,
      host,
      apiUrl,
      synchronous: synchronous && !isNode,
      state: isHeld ? "promised" : facts.state,
      timeline: position?.timeline ?? null,
      lsn: position?.lsn ?? null,
      ballot: this.#ballot,
      promised,
      suspects: this.#suspicion.suspects,
      problem: isNode
        ? {
            code: "NODE_NAME_IN_USE",
            message: `A node of the cluster is called ${name} too`,
            detail: null,
            hint: "Give the receiver another name: it does not count for durability.",
          }
        : problem,
    };
  }
}

const nothingYet: ReceiverFacts = {
  state: "connecting",
  systemIdentifier: null,
  upstream: null,
  token: null,
  archivedLsn: null,
  lastBackupAt: null,
  lastDrillAt: null,
  gap: null,
  problem: null,
};
