import { elapsedMs, type Instant } from "../values/time.ts";
import type { FencingToken, NodeName } from "../values/names.ts";
import { examineAfterMs } from "../cluster/policy.ts";
import { isLost } from "../cluster/early-failover.ts";
import { receiversOf } from "../cluster/receivers.ts";
import type { LocalPostgres, NodeView, ReceiverView, Standing, View } from "../cluster/view.ts";
import { replicationName, slotNameOf } from "../values/names.ts";
import type { PostgresFacts, SqlFacts, Upstream } from "../postgres/instance.ts";
import type { AgentContext } from "./context.ts";

/** Without an answer for this share of the ttl the DCS counts as unreachable; the lease's own deadline is independent. */
const unreachableAfter = 0.6;

const nobody = { receivers: new Map<NodeName, never>(), nodes: new Map<NodeName, never>() };

/** One frozen picture of everything a round decides from. `facts` is what PostgreSQL showed a moment ago. */
export function buildView(context: AgentContext, facts: PostgresFacts): View {
  const { options, mirror, guard, notebook, clock, suspicion } = context;
  const now = clock.now();
  const settings = context.settings();
  const state = mirror.state;
  const silentMs = mirror.contact === null ? null : elapsedMs(mirror.contact, now);
  noteStreaming(context, facts, now);
  const sql = facts.kind === "running" ? facts.sql : null;
  suspicion.observe(state?.lease.value ?? null, sql?.inRecovery === true ? sql.receivedLsn : null);
  const others: NodeView[] = [];
  for (const { value } of state?.nodes.values() ?? []) {
    if (value.name !== options.node) others.push({ record: value, heardMs: mirror.heardMs(value.name, now) });
  }
  const receivers: ReceiverView[] = receiversOf(state ?? nobody).map((record) => ({
    record,
    heardMs: mirror.receiverHeardMs(record.name, now),
  }));
  return {
    self: options.node,
    member: context.membership.member,
    promised: context.membership.promised,
    grant: context.membership.grant,
    tags: options.tags,
    location: options.location,
    policy: settings,
    dcs: { reachable: silentMs !== null && silentMs < settings.ttlMs * unreachableAfter, silentMs },
    cluster: state,
    standing: currentStanding(context),
    guard: guard.view(),
    others,
    receivers,
    postgres: localPostgres(context, facts, now),
    deafMs: notebook.deafSince === null ? 0 : elapsedMs(notebook.deafSince, now),
    disk: context.disk.facts(),
    provisional: notebook.provisional,
    prepared: notebook.prepared,
    standbys: notebook.standbys,
    standbysSeenAt: notebook.standbysSeenAt,
    operation: notebook.operation === null ? null : { kind: notebook.operation.kind },
    request: notebook.request?.request ?? null,
    moveDueMs: moveDueMs(context),
    retry: notebook.retry(),
  };
}

/** What the lease means here and now, an early failover (F7) included. */
export function currentStanding(context: AgentContext): Standing {
  const { keeper, mirror, suspicion, membership, settings, clock } = context;
  const standing = keeper.standing();
  const cluster = mirror.state;
  if (standing.kind !== "other" || cluster === null) return standing;
  const now = clock.now();
  const lost = isLost({
    lease: standing.lease,
    cluster,
    policy: settings(),
    member: membership.member,
    suspected: suspicion.suspects === standing.lease.token,
    tokenSeenMs: suspicion.tokenSeenMs(now),
    heardMs: (node) => mirror.heardMs(node, now),
    receiverHeardMs: (receiver) => mirror.receiverHeardMs(receiver, now),
  });
  if (!lost) return standing;
  const openMs = Math.max(0, suspicion.silentMs(now) - settings().suspectAfterMs);
  return { kind: "lost", lease: standing.lease, openMs };
}

/** Remembers since when the node streams or does not, and who streams from it. */
function noteStreaming(context: AgentContext, facts: PostgresFacts, now: Instant): void {
  const { notebook } = context;
  const sql = facts.kind === "running" ? facts.sql : null;
  const streaming = sql !== null && isStreaming(sql);
  notebook.unusableSince = facts.kind === "unusable" ? (notebook.unusableSince ?? now) : null;
  notebook.streamingSince = streaming ? (notebook.streamingSince ?? now) : null;
  notebook.notStreamingSince = sql === null || streaming ? null : (notebook.notStreamingSince ?? now);
  notebook.startingSince = facts.kind === "running" && sql === null ? (notebook.startingSince ?? now) : null;
  if (facts.kind !== "running") notebook.postmaster = null;
  else if (sql !== null)
    notebook.postmaster = {
      pid: facts.postmasterPid,
      role: sql.inRecovery ? "standby" : "primary",
      answered: true,
    };
  else if (notebook.postmaster?.pid !== facts.postmasterPid)
    notebook.postmaster = {
      pid: facts.postmasterPid,
      role: notebook.startedToWrite ? "primary" : null,
      answered: false,
    };
  const deaf = facts.kind === "running" && !facts.accepting && notebook.postmaster?.answered === true;
  notebook.deafSince = deaf ? (notebook.deafSince ?? now) : null;
  if (sql === null) return;
  notebook.synchronousNames ??= sql.synchronousStandbyNames;
  if (sql.inRecovery) {
    notebook.standbys = [];
    notebook.standbysSeenAt = null;
    return;
  }
  const known = new Map<string, NodeName>();
  for (const name of context.mirror.state?.nodes.keys() ?? []) known.set(name, name);
  notebook.standbysSeenAt = sql.lsn;
  notebook.standbys = sql.replication.flatMap((connection) => {
    const node = known.get(connection.applicationName.split("/")[0] ?? "");
    return node === undefined || connection.state !== "streaming" || connection.flushLsn === null
      ? []
      : [{ node, flushLsn: connection.flushLsn }];
  });
}

function isStreaming(sql: SqlFacts): boolean {
  return sql.walReceiver?.status === "streaming";
}

function localPostgres(context: AgentContext, facts: PostgresFacts, now: Instant): LocalPostgres {
  const { notebook } = context;
  switch (facts.kind) {
    case "empty":
      return { kind: "empty" };
    case "unusable":
      return {
        kind: "unusable",
        ...facts.fault.report(),
        forMs: elapsedMs(notebook.unusableSince ?? now, now),
      };
    case "stopped": {
      const { control } = facts;
      const inRecovery =
        control.clusterState.includes("recovery") && control.clusterState !== "in crash recovery";
      return {
        kind: "stopped",
        systemIdentifier: control.systemIdentifier,
        timeline: facts.walTimeline,
        wasPrimary: !inRecovery,
        clean: control.clusterState.startsWith("shut down"),
        remnants: facts.remnants,
      };
    }
    case "running": {
      if (facts.sql === null) {
        const since = notebook.startingSince ?? now;
        const role = notebook.postmaster?.role ?? null;
        const upstream = notebook.upstream ?? null;
        return { kind: "starting", ours: facts.ours, role, upstream, forMs: elapsedMs(since, now) };
      }
      const { sql } = facts;
      const since = notebook.notStreamingSince;
      // PostgreSQL lets a diverged standby connect and ends the stream again, over and over.
      const diverged = sql.inRecovery && isDiverged(context);
      return {
        kind: "running",
        ours: facts.ours,
        role: sql.inRecovery ? "standby" : "primary",
        systemIdentifier: sql.systemIdentifier,
        timeline: sql.timeline,
        lsn: sql.lsn,
        streaming: isStreaming(sql) && !diverged,
        upstream: sql.inRecovery ? upstreamOf(context, sql) : null,
        silentMs: diverged ? examineAfterMs : since === null ? 0 : elapsedMs(since, now),
      };
    }
  }
}

/** Whether the WAL here was seen not to be a beginning of the present leader's. */
export function isDiverged(context: AgentContext): boolean {
  const { diverged } = context.notebook;
  const lease = context.mirror.state?.lease.value;
  return diverged !== null && lease?.holder === diverged.leader && lease.token === diverged.token;
}

/** The node this standby is pointed at: what this agent configured, else what its receiver shows. */
export function upstreamOf(context: AgentContext, sql: SqlFacts): NodeName | null {
  const configured = context.notebook.upstream;
  if (configured !== undefined) return configured;
  const receiver = sql.walReceiver;
  if (receiver?.host == null) return null;
  for (const { value } of context.mirror.state?.nodes.values() ?? [])
    if (value.host === receiver.host && value.port === receiver.port) return value.name;
  return null;
}

/** Milliseconds until the recorded move is due, by civil time: the one decision that a person's clock makes. */
function moveDueMs(context: AgentContext): number | null {
  const { mirror, notebook, clock } = context;
  const move = mirror.state?.move.value ?? null;
  if (move === null) return null;
  if (move.scheduledAt === null) {
    // At once; how long ago this agent first saw it.
    const version = mirror.state?.move.version ?? 0;
    if (notebook.moveSeen?.version !== version) notebook.moveSeen = { version, at: clock.now() };
    return -elapsedMs(notebook.moveSeen.at, clock.now());
  }
  return Date.parse(move.scheduledAt) - Date.parse(context.clock.wall());
}

/**
 * Where a node is reached, the slot used there, and the name this node calls itself: its proven one for the lease's token
 * when the lineage was proven (S5), else its plain one, which no commit ever waits for. null = unknown, or a promise forbids
 * to connect (F9).
 */
export function upstreamAddress(
  context: AgentContext,
  node: NodeName,
  provenFor: FencingToken | null = null,
): Upstream | null {
  const { membership, mirror } = context;
  const record = mirror.state?.nodes.get(node)?.value;
  if (record === undefined || isHeldBack(context)) return null;
  return {
    host: record.host,
    port: record.port,
    slot: slotNameOf(context.options.node),
    applicationName:
      provenFor === null ? context.options.node : replicationName(membership.member, provenFor),
  };
}

/** F9: whether this node has promised a token above the lease's: it connects to nobody until the lease has reached it. */
function isHeldBack(context: AgentContext): boolean {
  const token = context.mirror.state?.lease.value?.token;
  const { promised } = context.membership;
  return promised !== null && token !== undefined && promised > token;
}
