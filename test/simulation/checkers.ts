import type { DcsTransaction } from "../../src/dcs/dcs.ts";
import type { NodeName } from "../../src/values/names.ts";
import type { Engine } from "./engine.ts";
import { parsed } from "./parsed.ts";
import type { Backend } from "./postgres/backend.ts";
import type { Observer } from "./postgres/cluster-net.ts";
import type { Postgres } from "./postgres/postgres.ts";
import type { Server } from "./postgres/server.ts";
import type { Commit, DataDirectory, WalRecord } from "./postgres/wal.ts";
import type { SimStore } from "./store.ts";

export type Invariant = "I1" | "I2" | "I3" | "I4" | "I5" | "I6" | "needless failover";

export interface Violation {
  readonly invariant: Invariant;
  readonly at: number;
  readonly text: string;
}

/** The records of the store, read by the checkers themselves. */
interface Entry {
  readonly token: number;
  readonly primary: string;
  readonly members: readonly string[];
  readonly required: number;
}
interface Lease {
  readonly holder: NodeName;
  readonly token: number;
  readonly state: string;
  readonly renewal: number;
  readonly ttlMs: number;
}

interface Acknowledged {
  readonly commit: Commit;
  readonly node: NodeName;
  readonly at: number;
}

/** How long a guard may need after its host was frozen: it looks every 200 ms, and the kill takes its time. */
const thawMs = 400;

const keys = { lease: "pgherd/lease", durability: "pgherd/durability", move: "failover" };

/** Judges a life by what happened, not by what the program thought: I1 to I6 of the protocol. */
export class Checkers implements Observer {
  readonly violations: Violation[] = [];
  readonly trace: Observer["trace"];
  holderChanges = 0;
  promotions = 0;
  lostUnprotected = 0;
  readonly #engine: Engine;
  readonly #nodes: () => readonly Postgres[];
  readonly #archive: () => Postgres | null;
  readonly #store: SimStore;
  #acknowledged: Acknowledged[] = [];
  #unprotected: Acknowledged[] = [];
  #lastAcknowledged: Acknowledged | null = null;
  readonly #promoted = new Map<number, NodeName>();
  #newest: {
    readonly node: NodeName;
    readonly server: Server;
    readonly timeline: number;
    early: boolean;
  } | null = null;
  #lossAccepted = false;
  /** The last holder was chosen while the record said that nobody else need have the last commits. */
  #exposed = false;
  #renewedAt = 0;
  readonly #writableListeners = new Set<() => void>();
  /** The last change of holder came before the lease had run out (F7). */
  #early = false;
  /** Until when a holder that was replaced so has its own deadline, whoever leads by then. */
  #earlyUntil = -Infinity;

  constructor(
    engine: Engine,
    store: SimStore,
    nodes: () => readonly Postgres[],
    archive: () => Postgres | null,
    trace: Observer["trace"],
  ) {
    this.#engine = engine;
    this.#store = store;
    this.#nodes = nodes;
    this.#archive = archive;
    this.trace = trace;
    store.onCommit = (transaction) => this.#committed(transaction);
  }

  /** Calls back whenever a server takes writes from now on. @returns stops that */
  onWritable(listener: () => void): () => void {
    this.#writableListeners.add(listener);
    return () => void this.#writableListeners.delete(listener);
  }

  report(invariant: Invariant, text: string): void {
    this.violations.push({ invariant, at: this.#engine.now, text });
    this.trace("checker", () => `${invariant} VIOLATED: ${text}`);
    this.#engine.stop();
  }

  /** The durability record now. */
  get entries(): readonly Entry[] {
    const text = this.#store.values.get(keys.durability);
    return text === undefined ? [] : (parsed(text) as Entry[]);
  }
  get lease(): Lease | null {
    const text = this.#store.values.get(keys.lease);
    return text === undefined ? null : (parsed(text) as Lease);
  }
  /** The server that takes writes on the newest timeline. */
  get writer(): Server | null {
    return this.#newest?.server ?? null;
  }
  get isProtected(): boolean {
    return this.entries.length > 0 && this.entries.every((entry) => entry.required > 0);
  }

  acknowledged(node: NodeName, backend: Backend, commit: Commit): void {
    const { server } = backend;
    this.#checkSingle(node, server, backend, commit);
    if (backend.mode !== "on") return;
    const acknowledged = { commit, node, at: this.#engine.now };
    this.#lastAcknowledged = acknowledged;
    // One that was replaced meanwhile was judged above; the record is not its own any more.
    const replaced = this.#newest !== null && this.#newest.server !== server;
    if (!this.isProtected || (replaced && !this.#waits(server))) {
      this.#unprotected.push(acknowledged);
      return;
    }
    this.#acknowledged.push(acknowledged);
    if (replaced) return;
    if (!this.entries.some((entry) => this.#isSafeBy(entry, commit)))
      this.report(
        "I2",
        `${node} acknowledged commit ${commit.id}, which is on too few of the recorded members: ${this.#describe()}`,
      );
  }

  /** P6: what a crash left in the WAL is shown to clients only when the recorded members have it. */
  loggedIn(node: NodeName, server: Server): void {
    const { recovered, data } = server;
    if (recovered === null || !this.isProtected) return;
    server.recovered = null;
    let index = Math.min(recovered, data.records.length) - 1;
    while (index >= 0 && data.records[index]?.commit == null) index -= 1;
    const commit = data.records[index]?.commit;
    if (commit == null || this.entries.some((entry) => this.#isSafeBy(entry, commit))) return;
    this.report(
      "I2",
      `${node} shows commit ${commit.id} after a crash, which is on too few of the recorded members: ${this.#describe()}`,
    );
  }

  /** I1: nobody acknowledges once another can write on a newer timeline. */
  #checkSingle(node: NodeName, server: Server, backend: Backend, commit: Commit): void {
    const newest = this.#newest;
    if (newest === null || newest.server === server) return;
    const timeline = server.data.records[commit.index]?.timeline ?? server.data.timeline;
    if (timeline > newest.timeline) return;
    const shared = newest.server.data.holds(commit);
    const thawed = this.#engine.now - server.postgres.host.thawedAt < thawMs;
    // F7, and a host that just woke up until its guard has run: what the new primary has already, or nobody promised to keep.
    const early = (shared && newest.early) || this.#engine.now < this.#earlyUntil;
    if (shared || backend.mode !== "on" ? early || thawed : thawed && !this.#waits(server)) return;
    this.report(
      "I1",
      `${node} acknowledged commit ${commit.id} on timeline ${timeline} although ${newest.node} was writable on timeline ${newest.timeline}`,
    );
  }

  /** Whether commits of this server waited for anybody. */
  #waits(server: Server): boolean {
    return server.shownNames !== "";
  }

  /** Whether the commit is where the entry says: flushed on its primary and on enough members. */
  #isSafeBy(entry: Entry, commit: Commit): boolean {
    return this.#has(entry.primary, commit) && this.#countOf(entry, commit) >= entry.required;
  }

  /** On how many of the entry's members the commit is flushed, or was when they lost it: nobody can know that at once. */
  #countOf(entry: Entry, commit: Commit): number {
    return entry.members.filter((member) => this.#has(member, commit) || this.#isLost(member)).length;
  }

  /** Whether the member's data was destroyed, or put back to an earlier state, and nothing has run there since. */
  #isLost(member: string): boolean {
    const node = this.#withMember(member);
    return node === undefined || node.data === null || node.putBack;
  }

  #has(member: string, commit: Commit): boolean {
    const data = this.#withMember(member)?.data;
    return data?.holds(commit) === true && data.flushed > commit.index;
  }

  /** Where a member's WAL is; the backup server's receiver is one. */
  #withMember(member: string): Postgres | undefined {
    return this.#holders().find((each) => this.memberOf(each) === member);
  }

  #holders(): readonly Postgres[] {
    const archive = this.#archive();
    return archive === null ? this.#nodes() : [...this.#nodes(), archive];
  }

  /** A node, or a receiver, with the incarnation of its data, as durability records name it. */
  memberOf(postgres: Postgres): string {
    const { files } = postgres.host;
    const identity = files.get("node.json") ?? files.get("member.json");
    if (identity === undefined) return postgres.host.name;
    const { incarnation } = parsed(identity) as { incarnation: string };
    return `${postgres.host.name}/${incarnation.slice(0, 8)}`;
  }

  #describe(): string {
    return this.entries
      .map(
        (entry) =>
          `${entry.required} of [${entry.members.join(" ")}] with ${entry.primary} (token ${entry.token})`,
      )
      .join(" and ");
  }

  promoted(node: NodeName, timeline: number): void {
    this.promotions += 1;
    const before = this.#promoted.get(timeline);
    this.#promoted.set(timeline, node);
    if (before !== undefined)
      this.report("I4", `${node} promoted to timeline ${timeline}, as ${before} did before`);
  }

  writable(node: NodeName, server: Server): void {
    this.trace(
      node,
      () => `writable on timeline ${server.data.timeline}, ${server.data.records.length} records`,
    );
    const { timeline } = server.data;
    const other = this.#newest;
    if (other !== null && other.node !== node && other.timeline === timeline)
      this.report("I4", `${node} writes on timeline ${timeline}, as ${other.node} did`);
    for (const listener of this.#writableListeners) listener();
    if (other === null || timeline >= other.timeline)
      this.#newest = { node, server, timeline, early: this.#early };
    // I1's exception: a host that was frozen in the midst of a promotion, and was replaced meanwhile, ends that promotion when it
    // wakes up, until its guard runs. What such a server acknowledges is judged as it does (checkSingle).
    const woken = this.#engine.now - server.postgres.host.thawedAt < thawMs;
    if (other !== null && timeline < other.timeline && woken) return;
    this.#checkLosses(node, server.data);
  }

  /** I2 once more, on the primary that is left. */
  atTheEnd(node: NodeName, data: DataDirectory): void {
    this.#checkLosses(node, data);
  }

  /** I2: what was acknowledged under protection is in the WAL of whoever can write. */
  #checkLosses(node: NodeName, data: DataDirectory): void {
    const lost = this.#acknowledged.filter(({ commit }) => !data.holds(commit));
    this.lostUnprotected += this.#unprotected.filter(({ commit }) => !data.holds(commit)).length;
    this.#unprotected = this.#unprotected.filter(({ commit }) => data.holds(commit));
    if (lost.length === 0) return;
    if (this.#lossAccepted || this.#exposed) {
      this.lostUnprotected += lost.length;
      this.#acknowledged = this.#acknowledged.filter(({ commit }) => data.holds(commit));
      return;
    }
    const [first] = lost;
    this.report(
      "I2",
      `${lost.length} acknowledged commits are not on ${node}, the first is ${first!.commit.id} of ${first!.node}, acknowledged at ${seconds(first!.at)}`,
    );
  }

  discarded(node: NodeName, records: readonly WalRecord[], saved: boolean): void {
    if (!saved) this.report("I6", `${node} removed ${records.length} records that were not put aside`);
  }

  deletedRetired(node: NodeName, proven: boolean): void {
    if (!proven) this.report("I6", `${node} deleted an old copy while it did not stream`);
  }

  /** I3, and how often the lease changed hands. */
  #committed(transaction: DcsTransaction): void {
    const move = transaction.writes.find((write) => write.key === keys.move);
    if (move?.value != null && (JSON.parse(move.value) as { accept_loss?: boolean }).accept_loss === true)
      this.#lossAccepted = true;
    const record = transaction.writes.find((each) => each.key === keys.durability);
    const write = transaction.writes.find((each) => each.key === keys.lease);
    const holder = write?.value == null ? this.lease?.holder : (JSON.parse(write.value) as Lease).holder;
    if (record?.value != null) this.#checkRecord(JSON.parse(record.value) as Entry[], holder);
    if (write?.value == null) return;
    const before = this.lease;
    const after = JSON.parse(write.value) as Lease;
    const ageMs = this.#engine.now - this.#renewedAt;
    this.#renewedAt = this.#engine.now;
    if (before === null || after.token === before.token) return;
    if (after.state === "elected") this.#exposed = !this.isProtected;
    const ranOut = before.state !== "serving" || ageMs > before.ttlMs * 0.98;
    if (after.holder !== before.holder && !ranOut && !this.isProtected)
      this.report(
        "I1",
        `${after.holder} took the lease ${Math.round(ageMs)} ms after its renewal, and no standby was recorded (F7)`,
      );
    if (after.holder !== before.holder) {
      this.holderChanges += 1;
      this.#early = !ranOut;
      if (!ranOut) this.#earlyUntil = this.#engine.now - ageMs + before.ttlMs;
    }
    this.trace(
      "store",
      () =>
        `lease: ${after.holder} token ${after.token} (was ${before.holder} ${before.token} ${before.state})`,
    );
    if (after.token <= before.token)
      this.report("I1", `token ${after.token} of ${after.holder} does not exceed ${before.token}`);
    if (after.state !== "elected" || !this.isProtected || this.#lossAccepted) return;
    const postgres = this.#nodes().find((each) => each.host.name === after.holder);
    if (before.state === "released" && this.#hasAllOf(before.holder, postgres?.data ?? null)) return; // F1
    const member = postgres === undefined ? after.holder : this.memberOf(postgres);
    if (this.#isAsGoodAsArchive(postgres?.data ?? null)) return;
    if (!this.entries.some((entry) => entry.primary === member || entry.members.includes(member)))
      this.report("I3", `${member} took the lease and is in no recorded set: ${this.#describe()}`);
  }

  /** A recorded receiver never leads: who has all of its WAL may in its place (F3). */
  #isAsGoodAsArchive(data: DataDirectory | null): boolean {
    const archive = this.#archive();
    if (archive?.data == null || data === null) return false;
    const member = this.memberOf(archive);
    if (!this.entries.some((entry) => entry.members.includes(member))) return false;
    return data.commonWith(archive.data) >= archive.data.flushed;
  }

  /** S1: the record is the holder's to write; S3: one that protects covers what was acknowledged before it, too. */
  #checkRecord(entries: readonly Entry[], holder: string | undefined): void {
    const writer = entries.at(-1)?.primary.split("/")[0];
    if (writer !== undefined && writer !== holder)
      this.report("I2", `the record became that of ${writer} while ${holder} held the lease`);
    const last = this.#lastAcknowledged;
    // Only where something is removed (S4): a new holder's entry joins those that its commits are safe by (F4).
    if (last === null || entries.length >= this.entries.length) return;
    if (entries.some((entry) => entry.required === 0)) return;
    const newest = entries.at(-1)!;
    const primary = this.#withMember(newest.primary);
    if (primary?.data?.holds(last.commit) !== true) return; // lost before, and counted then
    // The primary of an older entry may be gone for good: its members alone must do.
    if (entries.some((entry) => this.#countOf(entry, last.commit) >= entry.required)) return;
    this.report(
      "I2",
      `the record protects, and commit ${last.commit.id} of ${last.node}, acknowledged at ${seconds(last.at)}, is on too few of its members`,
    );
  }

  /** Whether all WAL of a node that gave the lease up is here too. */
  #hasAllOf(releaser: NodeName, data: DataDirectory | null): boolean {
    const theirs = this.#nodes().find((each) => each.host.name === releaser)?.data ?? null;
    return theirs !== null && data !== null && data.commonWith(theirs) === theirs.records.length;
  }

  /**
   * F3 by the checkers' own arithmetic: whether those that are there may elect one of themselves. A node in the midst of a
   * rewind, or one that waits for WAL to be consistent after it, cannot promise (F2).
   */
  canElect(): boolean {
    const there = this.#holders().filter(
      ({ host, data }) =>
        host.up && data !== null && !data.halfRewound && data.records.length >= data.consistent,
    );
    const members = new Set(there.map((each) => this.memberOf(each)));
    const archive = this.#archive()?.data ?? null;
    // A receiver cannot lead: somebody must be there who has all of its WAL, or can go on with it.
    const mayLead = this.#nodes().some(
      (node) => there.includes(node) && (archive === null || follows(node.data, archive)),
    );
    return (
      mayLead &&
      this.entries.every((entry) => {
        const present = entry.members.filter((member) => members.has(member)).length;
        return members.has(entry.primary) || present + entry.required > entry.members.length;
      })
    );
  }
}

/** Whether one of the two is a beginning of the other, and nothing between them is missing in the archive. */
function follows(data: DataDirectory | null, archive: DataDirectory): boolean {
  if (data === null) return false;
  const common = data.commonWith(archive);
  return common === archive.records.length || (common === data.records.length && common >= archive.oldest);
}

export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(3)} s`;
}
