import type { NodeRecord, NodeState } from "../cluster/records.ts";
import type { DcsWrite } from "../dcs/dcs.ts";
import { encodeRecord, keys } from "../dcs/layout.ts";
import type { PostgresFacts } from "../postgres/instance.ts";
import { patroniRole, patroniState, patroniTags } from "../cluster/patroni-words.ts";
import { heartbeatMs } from "../cluster/policy.ts";
import { formatLsn } from "../values/lsn.ts";
import { elapsedMs, type Instant } from "../values/time.ts";
import type { WallTime } from "../values/time.ts";
import type { AgentContext } from "./context.ts";
import { dcsTimeoutMs } from "./context.ts";
import { upstreamOf } from "./observe.ts";
import { Fault } from "../values/fault.ts";

/** What this node says of itself in the DCS: builds it each round, writes it when it matters. */
export class RecordKeeper {
  readonly #context: AgentContext;
  #sequence: number;
  #written: NodeRecord | null = null;
  #writtenLsn: string | null = null;
  #writtenAt: Instant | null = null;
  #pending: NodeRecord | null = null;
  #state: NodeState = "unknown";
  #since: WallTime;
  #leaderLsnWritten: bigint | null = null;

  constructor(context: AgentContext) {
    this.#context = context;
    this.#sequence = Date.parse(context.clock.wall());
    this.#since = context.clock.wall();
  }

  /** The record as of these facts. */
  build(facts: PostgresFacts): NodeRecord {
    const { options, notebook, clock } = this.#context;
    const sql = facts.kind === "running" ? facts.sql : null;
    const state = stateOf(this.#context, facts);
    if (state !== this.#state) {
      this.#state = state;
      this.#since = clock.wall();
    }
    const control = facts.kind === "stopped" ? facts.control : null;
    const operation = notebook.operation;
    const record: NodeRecord = {
      name: options.node,
      nodeId: options.nodeId,
      incarnation: this.#context.membership.incarnation,
      agentId: options.agentId,
      sequence: this.#sequence,
      agentVersion: options.agentVersion,
      host: options.host,
      port: options.postgresPort,
      apiUrl: options.apiUrl,
      location: options.location,
      tags: options.tags,
      systemIdentifier: sql?.systemIdentifier ?? control?.systemIdentifier ?? null,
      state,
      role: sql === null ? null : sql.inRecovery ? "standby" : "primary",
      serverVersion: sql?.serverVersion ?? null,
      timeline: sql?.timeline ?? (facts.kind === "stopped" ? facts.walTimeline : null),
      lsn: sql?.lsn ?? null,
      replayedLsn: sql?.replayedLsn ?? null,
      upstream: sql?.inRecovery === true ? upstreamOf(this.#context, sql) : null,
      streaming: sql?.walReceiver?.status === "streaming",
      oldestWalLsn: notebook.oldestWalLsn,
      pendingRestart: sql?.pendingRestart ?? [],
      appliedSettings: notebook.appliedSettings,
      stopMs: Math.ceil(this.#context.guard.view().stopMs),
      ballot: notebook.ballot,
      promised: this.#context.membership.promised,
      suspects: this.#context.suspicion.suspects,
      problem: notebook.diskProblem ?? notebook.problem,
      operation:
        operation === null
          ? null
          : {
              kind: operation.kind,
              step: operation.step,
              doneBytes: operation.doneBytes,
              totalBytes: operation.totalBytes,
              startedAt: operation.startedAt,
            },
      since: this.#since,
      writtenAt: clock.wall(),
    };
    this.#pending = record;
    return record;
  }

  /** Whether this agent has written its record since its start. */
  get hasWritten(): boolean {
    return this.#writtenAt !== null;
  }

  /** The last record built; null before the first round. */
  get latest(): NodeRecord | null {
    return this.#pending;
  }

  /** The writes that are due: because something changed, or because others must hear that this node lives. */
  due(): readonly DcsWrite[] {
    const record = this.#pending;
    if (record === null) return [];
    const same = this.#written !== null && isSame(record, this.#written);
    const lsn = record.lsn === null ? null : formatLsn(record.lsn);
    const now = this.#context.clock.now();
    const beat = heartbeatMs(this.#context.settings().ttlMs);
    const silent = this.#writtenAt === null ? Infinity : elapsedMs(this.#writtenAt, now);
    if (same && silent < beat && (lsn === this.#writtenLsn || silent < 900)) return [];
    this.#sequence += 1;
    this.#written = record;
    this.#writtenLsn = lsn;
    this.#writtenAt = now;
    const leading = this.#context.keeper.standing().kind === "mine" && record.role === "primary";
    const writes: DcsWrite[] = [
      { key: keys.node(record.name), value: encodeRecord({ ...record, sequence: this.#sequence }) },
      { key: keys.member(record.name), value: patroniMember(this.#context, record) },
    ];
    if (leading && record.lsn !== null && record.lsn !== this.#leaderLsnWritten) {
      this.#leaderLsnWritten = record.lsn;
      writes.push({ key: keys.status, value: JSON.stringify({ optime: Number(record.lsn), slots: {} }) });
    }
    return writes;
  }

  /** Writes what is due. A failure is no fault: the next round tries again. */
  async publish(): Promise<void> {
    const writes = this.due();
    if (writes.length === 0) return;
    try {
      const timeoutMs = dcsTimeoutMs(this.#context.settings().ttlMs);
      await this.#context.dcs.transact({ checks: [], writes }, timeoutMs);
      this.#context.mirror.touch();
    } catch (thrown) {
      this.#written = null;
      this.#context.log("debug", "record.write_failed", {
        code: thrown instanceof Fault ? thrown.code : String(thrown),
      });
    }
  }

  /** Forgets what was written, so that the next round writes again. */
  invalidate(): void {
    this.#written = null;
  }
}

/** What others need not hear of at once. */
const volatile: ReadonlySet<string> = new Set([
  "sequence",
  "lsn",
  "replayedLsn",
  "oldestWalLsn",
  "writtenAt",
] satisfies (keyof NodeRecord)[]);

/** Whether nothing has changed that others should hear of at once. Asked each round: most fields are the very same values. */
function isSame(record: NodeRecord, written: NodeRecord): boolean {
  const essence = (of: NodeRecord, name: keyof NodeRecord): unknown =>
    name === "operation" && of.operation !== null
      ? { ...of.operation, doneBytes: progressTenth(of) }
      : of[name];
  return (Object.keys(record) as (keyof NodeRecord)[]).every((name) => {
    if (record[name] === written[name] || volatile.has(name)) return true;
    const [now, before] = [essence(record, name), essence(written, name)];
    if (Array.isArray(now) && now.length === 0 && Array.isArray(before)) return before.length === 0;
    return (
      typeof now === "object" && typeof before === "object" && encodeRecord(now) === encodeRecord(before)
    );
  });
}

function progressTenth(record: NodeRecord): number | null {
  const { doneBytes, totalBytes } = record.operation ?? { doneBytes: null, totalBytes: null };
  return doneBytes === null || totalBytes === null || totalBytes === 0
    ? null
    : Math.floor((doneBytes / totalBytes) * 20);
}

/** The state word of a node, from what it is doing and what PostgreSQL shows. */
function stateOf(context: AgentContext, facts: PostgresFacts): NodeState {
  const operation = context.notebook.operation?.kind;
  if (operation === "bootstrap") return "initializing";
  if (operation === "clone" || context.notebook.operation?.step.startsWith("copying") === true)
    return "cloning";
  if (context.notebook.operation?.step.startsWith("rewinding") === true) return "rewinding";
  if (operation === "promote") return "promoting";
  switch (facts.kind) {
    case "empty":
      return "uninitialized";
    case "unusable":
      return "failed";
    case "stopped":
      if (operation === "start-primary" || operation === "start-standby" || operation === "rejoin")
        return "starting";
      if (context.notebook.problem !== null) return "failed";
      return facts.control.clusterState.startsWith("shut down") ? "stopped" : "crashed";
    case "running":
      if (operation === "switchover" || operation === "shutdown") return "stopping";
      if (facts.sql === null) return "starting";
      if (!facts.sql.inRecovery) return "running";
      return facts.sql.walReceiver?.status === "streaming" ? "streaming" : "replaying";
  }
}

/** The member key in the form that Patroni's tools read. */
function patroniMember(context: AgentContext, record: NodeRecord): string {
  const tags = patroniTags(record.tags);
  return JSON.stringify({
    conn_url: `postgres://${record.host}:${record.port}/postgres`,
    api_url: `${record.apiUrl}/patroni`,
    state: patroniState(record.state),
    role: patroniRole(record.role),
    version: context.options.agentVersion,
    ...(Object.keys(tags).length > 0 && { tags }),
    ...(record.lsn !== null && { xlog_location: Number(record.lsn) }),
    ...(record.timeline !== null && { timeline: record.timeline }),
    ...(record.streaming && { replication_state: "streaming" }),
    ...(record.pendingRestart.length > 0 && { pending_restart: true }),
    ...(context.settings().paused && { pause: true }),
  });
}
