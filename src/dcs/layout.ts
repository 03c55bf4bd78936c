/**
 * The keys of one cluster below `/<namespace>/<scope>/` and the form of their values. The plain names are those the field's
 * tools read (Patroni's layout); what they do not know stands under `pgherd/`, and only that and `config`, `failover`,
 * `initialize` are read back. Unknown fields are ignored, records that make no sense are reported and treated as absent.
 */
import { z } from "zod";
import { durabilityHardLimit } from "../cluster/durability.ts";
import {
  nodeStates,
  type GateOrder,
  type HistoryEntry,
  type NodeRecord,
  type ReceiverRecord,
  type RecoveryRecord,
  type RouterRecord,
} from "../cluster/records.ts";
import type { ClusterState, Initialization, Versioned } from "../cluster/state.ts";
import { formatLsn, type Lsn } from "../values/lsn.ts";
import type { NodeName } from "../values/names.ts";
import type { DcsEntry } from "./dcs.ts";
import { mostReceivers, receiverSchema } from "./layout-receivers.ts";
import { recoverySchema } from "./layout-recovery.ts";
import { gateSchema, mostRouters, routerSchema } from "./layout-routers.ts";
import {
  lsn,
  member,
  nodeName,
  scalar,
  systemIdentifier,
  timeline,
  token,
  wallTime,
} from "./layout-values.ts";

const nodePrefix = "pgherd/nodes/";
const routerPrefix = "pgherd/routers/";
const receiverPrefix = "pgherd/receivers/";

export const keys = {
  initialize: "initialize",
  config: "config",
  leader: "leader",
  failover: "failover",
  history: "history",
  status: "status",
  sync: "sync",
  member: (node: NodeName): string => `members/${node}`,
  lease: "pgherd/lease",
  durability: "pgherd/durability",
  node: (node: NodeName): string => `${nodePrefix}${node}`,
  forks: "pgherd/history",
  moveOutcome: "pgherd/move_outcome",
  secrets: "pgherd/secrets",
  gate: "pgherd/gate",
  recovery: "pgherd/recovery",
  routing: "pgherd/routing",
  router: (name: string): string => `${routerPrefix}${name}`,
  receiver: (name: NodeName): string => `${receiverPrefix}${name}`,
} as const;

const leaseSchema = z.object({
  holder: nodeName,
  token,
  renewal: z.number(),
  ttlMs: z.number().positive(),
  state: z.enum(["elected", "serving", "released"]),
  timeline,
  reservedTimeline: timeline,
  origin: z
    .object({ timeline, lsn })
    .nullish()
    .transform((origin) => origin ?? null),
  lsn: lsn.nullable(),
  release: z
    .object({
      kind: z.enum(["switchover", "shutdown", "crash"]),
      candidate: nodeName.nullable(),
      at: wallTime,
    })
    .nullable(),
  servingSince: wallTime.nullish().transform((at) => at ?? null),
  registered: z.array(nodeName).nullish(),
});

const tagsSchema = z.object({
  nofailover: z.boolean(),
  noloadbalance: z.boolean(),
  clonefrom: z.boolean(),
  nosync: z.boolean(),
  replicatefrom: nodeName.nullable(),
  failoverPriority: z.number(),
  weight: z.number().default(100),
  free: z.record(z.string(), scalar),
});

const nodeSchema: z.ZodType<NodeRecord> = z.object({
  name: nodeName,
  nodeId: z.string(),
  incarnation: z.string(),
  agentId: z.string(),
  sequence: z.number(),
  agentVersion: z.string(),
  host: z.string(),
  port: z.number(),
  apiUrl: z.string(),
  location: z.string().nullable(),
  tags: tagsSchema,
  systemIdentifier: systemIdentifier.nullable(),
  state: z.enum(nodeStates),
  role: z.enum(["primary", "standby"]).nullable(),
  serverVersion: z.number().nullable(),
  timeline: timeline.nullable(),
  lsn: lsn.nullable(),
  replayedLsn: lsn.nullable(),
  upstream: nodeName.nullable(),
  streaming: z.boolean(),
  oldestWalLsn: lsn.nullable(),
  pendingRestart: z.array(z.string()),
  appliedSettings: z
    .number()
    .nullish()
    .transform((version) => version ?? null),
  stopMs: z
    .number()
    .nullish()
    .transform((ms) => ms ?? null),
  ballot: z
    .object({
      token,
      timeline,
      lsn,
      recordVersion: z.number().default(0),
      taken: z.object({ timeline, lsn }).nullish(),
    })
    .nullable(),
  promised: token.nullish().transform((promised) => promised ?? null),
  suspects: token.nullish().transform((suspected) => suspected ?? null),
  problem: z
    .object({
      code: z.string(),
      message: z.string(),
      detail: z.string().nullable().default(null),
      hint: z.string().nullable().default(null),
    })
    .nullable(),
  operation: z
    .object({
      kind: z.string(),
      step: z.string(),
      doneBytes: z.number().nullable(),
      totalBytes: z.number().nullable(),
      startedAt: wallTime,
    })
    .nullable(),
  since: wallTime,
  writtenAt: wallTime,
});

const historySchema = z.array(
  z.object({
    timeline,
    forkLsn: lsn,
    reason: z.string(),
    at: wallTime,
    newTimeline: timeline,
    newLeader: nodeName,
    token,
  }),
);

const durabilitySchema = z
  .array(
    z.object({
      token,
      primary: member,
      members: z.array(member).max(64),
      required: z.number().int().min(0),
      since: wallTime.nullish(),
    }),
  )
  .max(durabilityHardLimit);

const moveSchema = z
  .object({
    id: z.string().nullish(),
    leader: nodeName.nullish(),
    member: nodeName.nullish(),
    scheduled_at: wallTime.nullish(),
    accept_loss: z.boolean().nullish(),
  })
  .transform((move) => ({
    id: move.id ?? null,
    leader: move.leader ?? null,
    candidate: move.member ?? null,
    scheduledAt: move.scheduled_at ?? null,
    acceptLoss: move.accept_loss ?? false,
  }));

const moveOutcomeSchema = z.object({
  id: z.string().nullable(),
  done: z.boolean(),
  leader: nodeName.nullable(),
  code: z.string().nullable(),
  message: z.string(),
  at: wallTime,
});

const statusSchema = z.object({ optime: z.number().int().min(0) });

const credentialSchema = z.object({ username: z.string(), password: z.string() });
const secretsSchema = z.object({
  superuser: credentialSchema,
  replication: credentialSchema,
  rewind: credentialSchema,
  api: z.object({ token: z.string() }),
});

/** The cluster's secrets as they stand in the DCS and in `secrets.json`. @throws Error that quotes nothing of the text */
export function parseSecrets(text: string): z.infer<typeof secretsSchema> {
  try {
    return secretsSchema.parse(JSON.parse(text));
  } catch {
    throw new Error("not the secrets of a cluster");
  }
}

/** JSON with LSNs as PostgreSQL writes them; the reverse of the schemas above. */
export function encodeRecord(record: unknown): string {
  return JSON.stringify(withTexts(record));
}

/** The same with LSNs as texts; what holds none is the very same value. Much cheaper than to ask for each value while it is written. */
function withTexts(value: unknown): unknown {
  if (typeof value === "bigint") return formatLsn(value as Lsn);
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(withTexts);
  let copy: Record<string, unknown> | null = null;
  for (const [name, field] of Object.entries(value)) {
    const text = withTexts(field);
    if (text === field) continue;
    copy ??= { ...value };
    copy[name] = text;
  }
  return copy ?? value;
}

/** Patroni's `history` key: `[[timeline, lsn, reason, time, new leader], ...]`. */
export function encodePatroniHistory(history: readonly HistoryEntry[]): string {
  return JSON.stringify(
    history.map((entry) => [entry.timeline, Number(entry.forkLsn), entry.reason, entry.at, entry.newLeader]),
  );
}

type Garbage = { readonly key: string; readonly problem: string };

/** Decodes snapshots of the store; remembers what each key decoded to, so that only changed keys cost anything. */
export class StateDecoder {
  readonly #memo = new Map<string, Understood>();

  /** The cluster's state from all its keys. Never throws: what cannot be understood is listed in `garbage`. */
  decode(revision: number, entries: ReadonlyMap<string, DcsEntry>): ClusterState {
    const garbage: Garbage[] = [];
    const read = <T>(key: string, parse: (text: string) => T, absent: T): Versioned<T> =>
      this.#read(entries, garbage, key, parse, absent);
    const nodes = new Map<NodeName, Versioned<NodeRecord>>();
    const routers = new Map<string, Versioned<RouterRecord>>();
    const receivers = new Map<NodeName, Versioned<ReceiverRecord>>();
    for (const key of entries.keys()) {
      if (key.startsWith(nodePrefix)) {
        const node = read(key, parseNode, null);
        if (isThere(node)) nodes.set(node.value.name, node);
      } else if (key.startsWith(routerPrefix) && routers.size < mostRouters) {
        const router = read(key, parseRouter, null);
        if (isThere(router)) routers.set(router.value.name, router);
      } else if (key.startsWith(receiverPrefix) && receivers.size < mostReceivers) {
        const receiver = read(key, parseReceiver, null);
        if (isThere(receiver)) receivers.set(receiver.value.name, receiver);
      }
    }
    read(keys.secrets, (text) => void parseSecrets(text), undefined);
    return {
      revision,
      initialization: read<Initialization>(
        keys.initialize,
        (text) =>
          text === ""
            ? { kind: "bootstrapping" }
            : { kind: "initialized", systemIdentifier: systemIdentifier.parse(text) },
        { kind: "absent" },
      ),
      lease: read(keys.lease, (text) => leaseSchema.parse(JSON.parse(text)), null),
      nodes,
      history: read(keys.forks, (text): readonly HistoryEntry[] => historySchema.parse(JSON.parse(text)), []),
      move: read(
        keys.failover,
        (text) => {
          const move = moveSchema.parse(JSON.parse(text));
          return move.leader === null && move.candidate === null ? null : move;
        },
        null,
      ),
      moveOutcome: read(keys.moveOutcome, (text) => moveOutcomeSchema.parse(JSON.parse(text)), null),
      durability: read(keys.durability, (text) => durabilitySchema.parse(JSON.parse(text)), []),
      gate: read(keys.gate, (text): GateOrder | null => gateSchema.parse(JSON.parse(text)), null),
      routers,
      receivers,
      recovery: read(
        keys.recovery,
        (text): RecoveryRecord | null => recoverySchema.parse(JSON.parse(text)),
        null,
      ),
      leaderLsn: read(
        keys.status,
        (text): Lsn | null => BigInt(statusSchema.parse(JSON.parse(text)).optime) as Lsn,
        null,
      ).value,
      settings: read(keys.config, (text): string | null => text, null),
      garbage,
    };
  }

  #read<T>(
    entries: ReadonlyMap<string, DcsEntry>,
    garbage: Garbage[],
    key: string,
    parse: (text: string) => T,
    absent: T,
  ): Versioned<T> {
    const entry = entries.get(key);
    if (entry === undefined) {
      this.#memo.delete(key);
      return { value: absent, version: 0 };
    }
    let known = this.#memo.get(key);
    if (known?.version !== entry.version) {
      known = understood(entry, parse, absent);
      this.#memo.set(key, known);
    }
    if (known.problem !== null) garbage.push({ key, problem: known.problem });
    return known as Versioned<T>;
  }
}

interface Understood extends Versioned<unknown> {
  readonly problem: string | null;
}

/** What entries were found to hold: who looks at the very same entry again, in this mirror or another, need not parse it. */
const entriesUnderstood = new WeakMap<DcsEntry, Understood>();

function understood<T>(entry: DcsEntry, parse: (text: string) => T, absent: T): Understood {
  let found = entriesUnderstood.get(entry);
  if (found === undefined) {
    found = { version: entry.version, ...attempt(() => parse(entry.value), absent) };
    entriesUnderstood.set(entry, found);
  }
  return found;
}

const parseNode = (text: string): NodeRecord | null => nodeSchema.parse(JSON.parse(text));
const parseRouter = (text: string): RouterRecord | null => routerSchema.parse(JSON.parse(text));
const parseReceiver = (text: string): ReceiverRecord | null => receiverSchema.parse(JSON.parse(text));

function isThere<T>(record: Versioned<T | null>): record is Versioned<T> {
  return record.value !== null;
}

function attempt<T>(parse: () => T, absent: T): { value: T; problem: string | null } {
  try {
    return { value: parse(), problem: null };
  } catch (thrown) {
    return { value: absent, problem: firstProblem(thrown) };
  }
}

function firstProblem(thrown: unknown): string {
  if (thrown instanceof z.ZodError) {
    const issue = thrown.issues[0];
    return issue === undefined ? "invalid" : `${issue.path.join(".") || "value"}: ${issue.message}`;
  }
  return thrown instanceof Error ? thrown.message : String(thrown);
}
