import type { Lsn } from "../values/lsn.ts";
import {
  nodeOfMember,
  replicationName,
  type FencingToken,
  type Member,
  type NodeName,
} from "../values/names.ts";
import type { DurabilityEntry } from "./records.ts";

/**
 * What a commit waits for (docs/spec/failover.md, "Changing the durability set"). degrade: for `standbys` of those that are
 * there, and for nobody, recorded first, when none is. strict: always for `standbys`. async: for nobody.
 */
export interface DurabilityPolicy {
  readonly mode: "degrade" | "strict" | "async";
  /** How many standbys must have flushed a commit (W). */
  readonly standbys: number;
  /** The ordered form: only these count, the first ones that are there are waited for; empty = any. */
  readonly order: readonly NodeName[];
}

/** A standby that streams from the primary under its proven name (S5). */
export interface SyncStandby {
  readonly member: Member;
  readonly flushLsn: Lsn;
  /** There and answering, caught up, and its tags let it count. */
  readonly usable: boolean;
  /** The tag sync_priority: the higher, the earlier it is waited for. */
  readonly priority: number;
  /** A WAL receiver: unless `order` names it, it counts only while there are too few standbys. */
  readonly reserve?: boolean | undefined;
}

/** What the next step of a change is decided from. */
export interface DurabilityFacts {
  readonly primary: Member;
  readonly token: FencingToken;
  readonly policy: DurabilityPolicy;
  /** The record as it stands, of every token. */
  readonly record: readonly DurabilityEntry[];
  readonly standbys: readonly SyncStandby[];
  /** The names PostgreSQL is known to hold everywhere, and its flushed end of WAL after that (S2); null = not known. */
  readonly applied: { readonly names: string; readonly barrier: Lsn } | null;
}

/** The one thing to do next toward the wanted set. Each may be repeated; a leader that finds a change under way goes on. */
export type DurabilityStep =
  | { readonly kind: "settled" }
  /** S1, S4: write the record. */
  | { readonly kind: "record"; readonly entries: readonly DurabilityEntry[]; readonly why: string }
  /** S2: make PostgreSQL hold these names. */
  | { readonly kind: "apply"; readonly names: string }
  /** S3: wait until enough members have flushed what was acknowledged before. */
  | { readonly kind: "barrier"; readonly names: string; readonly lsn: Lsn };

/** How many entries a record may hold: S1 adds none beyond it (State in the DCS). */
const durabilityEntryLimit = 12;
/** And how many with those of holders that died before they could finish (F4). */
export const durabilityHardLimit = 48;

/** What is put there when commits must wait and no standby is there: no standby can have this name. */
const nobody = 'ANY 1 ("pgherd: no standby")';

/** The next step (S1 to S4). Pure; `settled` when the record and PostgreSQL are as wanted. */
export function nextDurabilityStep(facts: DurabilityFacts): DurabilityStep {
  const { record } = facts;
  const own = ownEntries(facts);
  const latest = own.at(-1) ?? null;
  const wanted = wantedEntry(facts, latest);
  if (wanted === null) {
    // strict without enough standbys and nothing recorded yet for this token: what was recorded stays, and commits wait.
    return facts.applied?.names === nobody ? { kind: "settled" } : { kind: "apply", names: nobody };
  }
  let goal = own.find((entry) => sameSet(entry, wanted)) ?? null;
  if (goal === null) {
    const mayFinish = latest !== null && record.length > 1 && canReach(latest, facts.standbys);
    if (!mayFinish && record.length < durabilityEntryLimit)
      return { kind: "record", entries: [...record, wanted], why: `adding ${describeEntry(wanted)}` };
    goal = latest;
  }
  if (goal === null) return { kind: "settled" };
  const names = synchronousNames(goal, facts);
  if (facts.applied?.names !== names)
    return { kind: "apply", names: mayMix(facts.applied?.names ?? null, names) ? nobody : names };
  if (record.length === 1) return { kind: "settled" };
  if (!hasFlushed(goal, facts.standbys, facts.applied.barrier))
    return { kind: "barrier", names, lsn: facts.applied.barrier };
  return { kind: "record", entries: [goal], why: `keeping ${describeEntry(goal)}` };
}

/** The entries of this holder under this token, in the order they were recorded. */
function ownEntries(facts: Pick<DurabilityFacts, "record" | "token" | "primary">): DurabilityEntry[] {
  return facts.record.filter((entry) => entry.token === facts.token && entry.primary === facts.primary);
}

/** The entry of a new holder for the transaction that makes it one (F4); null = none: what is recorded stays (strict). */
export function electedEntry(
  primary: Member,
  token: FencingToken,
  policy: DurabilityPolicy,
  standbys: readonly SyncStandby[],
): DurabilityEntry | null {
  return wantedEntry({ primary, token, policy, standbys }, null);
}

type Wanting = Pick<DurabilityFacts, "primary" | "token" | "policy" | "standbys">;

function wantedEntry(facts: Wanting, latest: DurabilityEntry | null): DurabilityEntry | null {
  const { primary, token, policy } = facts;
  const alone = { token, primary, members: [], required: 0 };
  if (policy.mode === "async") return alone;
  const usable = chosen(facts)
    .map((standby) => standby.member)
    .sort();
  if (policy.mode === "degrade")
    return { token, primary, members: usable, required: Math.min(policy.standbys, usable.length) };
  if (usable.length >= policy.standbys) return { token, primary, members: usable, required: policy.standbys };
  // strict: the set that was there stays, and commits wait until enough of it is back.
  return latest !== null && latest.required >= policy.standbys ? latest : null;
}

/** Who may be waited for now: with an order those it names; else the standbys, and receivers when these are too few. */
function chosen({ primary, policy, standbys }: Wanting): SyncStandby[] {
  const usable = standbys.filter((standby) => standby.usable && standby.member !== primary);
  if (policy.order.length > 0)
    return usable.filter((standby) => policy.order.includes(nodeOfMember(standby.member)));
  const nodes = usable.filter((standby) => standby.reserve !== true);
  return nodes.length >= policy.standbys ? nodes : usable;
}

/** `synchronous_standby_names` for the entry: exactly the proven names of its members, quoted (S5). */
export function synchronousNames(
  entry: DurabilityEntry,
  facts: Pick<DurabilityFacts, "policy" | "standbys">,
): string {
  const { policy, standbys } = facts;
  if (policy.mode === "strict" && entry.required < policy.standbys) return nobody;
  if (entry.required === 0) return "";
  const priority = (member: Member): number =>
    standbys.find((standby) => standby.member === member)?.priority ?? 1;
  const place = (member: Member): number => policy.order.indexOf(nodeOfMember(member));
  const ordered = policy.order.length > 0;
  const graded = !ordered && new Set(entry.members.map(priority)).size > 1;
  const members = [...entry.members];
  if (ordered) members.sort((a, b) => place(a) - place(b));
  else if (graded) members.sort((a, b) => priority(b) - priority(a));
  const names = members.map((member) => `"${replicationName(member, entry.token)}"`);
  return `${ordered || graded ? "FIRST" : "ANY"} ${entry.required} (${names.join(", ")})`;
}

/** The names to start or to promote with (P6): from the record, before the first write can be acknowledged. */
export function namesToStartWith(facts: Omit<DurabilityFacts, "applied">): string {
  const latest = ownEntries(facts).at(-1);
  if (latest !== undefined) return synchronousNames(latest, facts);
  // Nothing recorded for this token, such as after it was raised (F9): what was recorded before still holds.
  const exposed = facts.record.some((entry) => entry.primary === facts.primary && entry.required === 0);
  return facts.policy.mode === "strict" || (facts.record.length > 0 && !exposed) ? nobody : "";
}

/**
 * What a standby holds: not empty, so that its checkpointer and walsenders know already that commits wait when it is promoted,
 * and no checkpoint stands in the way (S2, P6). It acknowledges nothing itself.
 */
export function standbyNames(policy: DurabilityPolicy): string {
  return policy.mode === "async" ? "" : nobody;
}

/** How many of an entry's members must be waited for; read back from the names, since W is not visible elsewhere. */
export function requiredIn(names: string): number {
  return Number(/^(?:ANY|FIRST) (\d+) /.exec(names)?.[1] ?? 0);
}

/** Whether no standby can release commits under these names. */
export function releasesNothing(names: string): boolean {
  return names === nobody;
}

/**
 * Whether commits may be released that no entry of the record covers while some walsenders have the names before and others
 * these: each releases by its own W, and counts every standby that any of them counts [PG]. Then the change goes through names
 * that release nothing. Null = it is not known what they have.
 */
function mayMix(before: string | null, names: string): boolean {
  if (before === "" || requiredIn(names) === 0 || releasesNothing(names)) return false;
  if (before === null) return requiredIn(names) > 1;
  if (releasesNothing(before)) return false;
  const [old, now] = [requiredIn(before), requiredIn(names)];
  if (old === 1 && now === 1) return false;
  return !(isWithin(before, names) && now <= old) && !(isWithin(names, before) && old <= now);
}

/** Whether all standbys of the one are in the other. */
function isWithin(some: string, all: string): boolean {
  const members = (names: string): string[] => names.match(/"[^"]*"/g) ?? [];
  const there = new Set(members(all));
  return members(some).every((member) => there.has(member));
}

/** Whether W of the members of the latest entry of this token have flushed what PostgreSQL had when it took the names (S3, P6). */
export function isFlushed(facts: DurabilityFacts): boolean {
  const latest = ownEntries(facts).at(-1);
  return (
    latest !== undefined &&
    facts.applied !== null &&
    hasFlushed(latest, facts.standbys, facts.applied.barrier)
  );
}

/** Whether a commit acknowledged now survives the loss of the primary: every entry waits for somebody (I2). */
export function isProtected(record: readonly DurabilityEntry[]): boolean {
  return record.length > 0 && record.every((entry) => entry.required > 0);
}

/** The entry that these promises do not satisfy; null = F3 holds: every acknowledged commit is on a promiser. */
export function missingForF3(
  record: readonly DurabilityEntry[],
  promised: ReadonlySet<Member>,
): DurabilityEntry | null {
  return (
    record.find((entry) => {
      if (promised.has(entry.primary)) return false;
      const present = entry.members.filter((member) => promised.has(member)).length;
      return present + entry.required <= entry.members.length;
    }) ?? null
  );
}

/** Whether the member may become primary while protection is in force: only a recorded P or a member of a recorded N (I3). */
export function isRecorded(record: readonly DurabilityEntry[], member: Member): boolean {
  return record.some((entry) => entry.primary === member || entry.members.includes(member));
}

/** Whether this node is the recorded primary, but with other data than that one had (Words: Member). */
export function isReplaced(record: readonly DurabilityEntry[], member: Member): boolean {
  const primary = record.at(-1)?.primary;
  return primary !== undefined && primary !== member && nodeOfMember(primary) === nodeOfMember(member);
}

/** Equal up to the order of the members and the token. */
function sameSet(a: DurabilityEntry, b: DurabilityEntry): boolean {
  return (
    a.required === b.required &&
    a.members.length === b.members.length &&
    a.members.every((member) => b.members.includes(member))
  );
}

function canReach(entry: DurabilityEntry, standbys: readonly SyncStandby[]): boolean {
  const there = standbys.filter((standby) => standby.usable && entry.members.includes(standby.member));
  return there.length >= entry.required;
}

function hasFlushed(entry: DurabilityEntry, standbys: readonly SyncStandby[], lsn: Lsn): boolean {
  const flushed = standbys.filter(
    (standby) => entry.members.includes(standby.member) && standby.flushLsn >= lsn,
  );
  return flushed.length >= entry.required;
}

/** For people: `1 of n2, n3`, or `nobody`. */
export function describeEntry(entry: DurabilityEntry): string {
  if (entry.required === 0) return "nobody";
  return `${entry.required} of ${entry.members.map(nodeOfMember).join(", ")}`;
}
