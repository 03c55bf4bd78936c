/**
 * What goes over the wire: JSON with WAL positions as text and names in snake_case. The types here are those that programs
 * in TypeScript see on the client's side; importing them costs nothing at run time.
 */
import type { HistoryEntry, NodeRecord } from "../cluster/records.ts";
import type { DiskFacts } from "../postgres/disk.ts";
import type { PostgresFacts, SqlFacts } from "../postgres/instance.ts";
import type { LocalPicture } from "../agent/service.ts";
import { formatLsn, type Lsn } from "../values/lsn.ts";

/** A value as JSON carries it: positions in the WAL are texts. */
export type Wire<T> = T extends bigint
  ? string
  : T extends string | number | boolean | null | undefined
    ? T
    : T extends readonly (infer Item)[]
      ? readonly Wire<Item>[]
      : { readonly [Key in keyof T]: Wire<T[Key]> };

/** One ended timeline, as `GET /v1/history` lists it. */
export interface HistoryLine {
  readonly timeline: number;
  readonly fork_lsn: string;
  readonly reason: string;
  readonly at: string;
  readonly new_timeline: number;
  readonly new_leader: string;
  readonly token: number;
}

/** What one agent knows of its own host, as `GET /v1/node` tells it (there in snake_case). */
export interface NodePicture {
  readonly record: Wire<NodeRecord>;
  /** What the last look at PostgreSQL found; null before the first. */
  readonly postgres: PostgresFacts["kind"] | null;
  /** PostgreSQL runs and was started by this installation; null when it does not run. */
  readonly ours: boolean | null;
  readonly postmasterPid: number | null;
  /** What the running server says; null when it does not answer. */
  readonly sql: Wire<SqlFacts> | null;
  /** Why there is no `sql`, or what is wrong with the data directory. */
  readonly problem: string | null;
  readonly disk: DiskFacts;
  readonly leads: boolean;
  readonly serving: { readonly token: number; readonly timeline: number; readonly forMs: number } | null;
  readonly loopAgeMs: number;
  readonly dcsAgeMs: number | null;
  readonly dcsReachable: boolean;
  readonly clusterUnlocked: boolean;
  readonly paused: boolean;
  readonly ttlMs: number;
  readonly startedAt: string;
}

/** Maps with keys of an operator's choosing: their names are not ours to change. */
const keptAsTheyAre: ReadonlySet<string> = new Set(["free"]);

/** JSON data of a record: LSNs as text, names in snake_case. */
export function toWire(value: unknown): unknown {
  return renamed(value, (key) => key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`));
}

/** The reverse of `toWire` for names; LSNs stay texts. */
export function fromWire(value: unknown): unknown {
  return renamed(value, (key) => key.replace(/_([a-z])/g, (_all, letter: string) => letter.toUpperCase()));
}

function renamed(value: unknown, rename: (key: string) => string): unknown {
  if (typeof value === "bigint") return formatLsn(value as Lsn);
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map((item) => renamed(item, rename));
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [
      rename(key),
      keptAsTheyAre.has(key) ? (item as unknown) : renamed(item, rename),
    ]),
  );
}

/** One line of the history for the wire. */
export function historyLine(entry: HistoryEntry): HistoryLine {
  return {
    timeline: entry.timeline,
    fork_lsn: formatLsn(entry.forkLsn),
    reason: entry.reason,
    at: entry.at,
    new_timeline: entry.newTimeline,
    new_leader: entry.newLeader,
    token: entry.token,
  };
}

/** The local picture for the wire, before its names are changed. */
export function nodePicture(local: LocalPicture): unknown {
  const { postgres, ...rest } = local;
  const running = postgres?.kind === "running" ? postgres : null;
  return {
    ...rest,
    postgres: postgres?.kind ?? null,
    ours: running?.ours ?? null,
    postmasterPid: running?.postmasterPid ?? null,
    sql: running?.sql ?? null,
    problem: postgres?.kind === "unusable" ? postgres.fault.message : (running?.sqlProblem ?? null),
  };
}
