import { bestStreamingStandby, mayBecomePrimary } from "../cluster/candidates.ts";
import { awayAfterMs } from "../cluster/policy.ts";
import type { MoveOutcome, NodeRecord, PinnedSessions } from "../cluster/records.ts";
import type { ClusterState } from "../cluster/state.ts";
import { keys } from "../dcs/layout.ts";
import { Fault, faultCatalogue, type FaultCode } from "../values/fault.ts";
import { lsnDistance, type Lsn } from "../values/lsn.ts";
import { parseNodeName, type NodeName } from "../values/names.ts";
import { elapsedMs } from "../values/time.ts";
import { dcsTimeoutMs, type AgentContext } from "./context.ts";
import { liveRouters } from "./router-gate.ts";
import type { MoveInput, MovePlan } from "./service.ts";

type Check = MovePlan["checks"][number];

const nothingChanged = "Nothing was changed.";

/** Every precheck of a move, from this node's picture. @throws Fault SWITCHOVER_*, NO_LEADER, CLUSTER_PAUSED, NODE_UNKNOWN */
export function planMove(context: AgentContext, input: MoveInput): MovePlan {
  const state = context.mirror.state;
  if (state === null)
    throw new Fault("DCS_UNREACHABLE", "This agent has not read the DCS yet.", { detail: nothingChanged });
  const leader = currentLeader(context, state);
  checkSource(context, state, input, leader);
  checkTime(context, input);
  const records = [...state.nodes.values()].map((node) => node.value);
  const to =
    input.candidate === null
      ? chooseCandidate(context, records, leader)
      : namedCandidate(records, input.candidate, leader);
  const target = records.find((record) => record.name === to);
  if (target === undefined) throw unknownNode(input.candidate ?? to, records);
  const checks = checkTarget(context, state, target, leader, input);
  const sessions = leader === null ? null : sessionsOf(context);
  const { switchoverDrainMs } = context.settings();
  const steps = stepsOf(leader, to, records, sessions === null ? null : switchoverDrainMs);
  return { from: leader, to, checks, steps, sessions };
}

/** The serving holder by this node's picture; null = nobody leads. */
export function currentLeader(context: AgentContext, state: ClusterState): NodeName | null {
  const standing = context.keeper.standing();
  const lease = state.lease.value;
  if (standing.kind !== "mine" && standing.kind !== "other") return null;
  return lease?.state === "serving" ? lease.holder : null;
}

function checkSource(
  context: AgentContext,
  state: ClusterState,
  input: MoveInput,
  leader: NodeName | null,
): void {
  if (input.kind === "switchover" && leader === null)
    throw new Fault("NO_LEADER", "No node leads, so there is nothing to switch over from.", {
      detail: nothingChanged,
      hint: "Wait for the automatic failover, or name a node: pgherd failover --to NODE.",
    });
  if (input.leader !== null && input.leader !== leader)
    throw new Fault("SWITCHOVER_LEADER_MISMATCH", `${input.leader} is not the leader.`, {
      detail: `The leader is ${leader ?? "nobody"}. ${nothingChanged}`,
      hint: "See `pgherd status`, and repeat the request if it is still wanted.",
    });
  if (input.kind === "failover" && input.candidate === null)
    throw new Fault("USAGE", "A failover needs the node that shall become primary.", {
      hint: "pgherd failover --to NODE",
    });
  if (context.settings().paused && input.candidate === null)
    throw new Fault("CLUSTER_PAUSED", "The cluster is paused: a move needs a named candidate.", {
      detail: nothingChanged,
      hint: "Name one with --to, or run `pgherd resume` first.",
    });
  if (context.settings().paused && input.scheduledAt !== null)
    throw new Fault("CLUSTER_PAUSED", "The cluster is paused: a switchover cannot be scheduled.", {
      detail: nothingChanged,
      hint: "Run `pgherd resume` first.",
    });
  const recorded = state.move.value;
  // A switchover whose leader is gone cannot begin any more: the failover that a person asks for takes its place.
  const replaced = input.kind === "failover" && leader === null && recorded?.leader != null;
  if (recorded !== null && !replaced)
    throw new Fault(
      "SWITCHOVER_RUNNING",
      recorded.scheduledAt === null
        ? "A switchover is already running."
        : "A switchover is already scheduled.",
      {
        detail: `To ${recorded.candidate ?? "the best candidate"}${recorded.scheduledAt === null ? "" : ` at ${recorded.scheduledAt}`}. ${nothingChanged}`,
        hint:
          recorded.scheduledAt === null
            ? "Wait for its end."
            : "Cancel it with `pgherd switchover --cancel`.",
      },
    );
}

function checkTime(context: AgentContext, input: MoveInput): void {
  if (input.scheduledAt === null) return;
  if (input.kind === "failover")
    throw new Fault("SWITCHOVER_TIME", "A failover cannot be scheduled.", {
      detail: nothingChanged,
      hint: "Leave the time out; or schedule a switchover.",
    });
  if (!/(Z|[+-]\d\d:?\d\d)$/.test(input.scheduledAt) || Number.isNaN(Date.parse(input.scheduledAt)))
    throw new Fault("SWITCHOVER_TIME", `"${input.scheduledAt}" is not a point of time with its offset.`, {
      detail: nothingChanged,
      hint: "Write it like 2026-11-21T02:00:00+01:00.",
    });
  if (Date.parse(input.scheduledAt) <= Date.parse(context.clock.wall()))
    throw new Fault("SWITCHOVER_TIME", `${input.scheduledAt} has passed.`, {
      detail: `Here it is ${context.clock.wall()}. ${nothingChanged}`,
      hint: "Name a time to come, or none to switch over now.",
    });
}

function namedCandidate(records: readonly NodeRecord[], wanted: string, leader: NodeName | null): NodeName {
  const name = parseNodeName(wanted);
  const record = records.find((known) => known.name === name);
  if (record === undefined) throw unknownNode(wanted, records);
  if (record.name === leader)
    throw new Fault("SWITCHOVER_CANDIDATE_IS_LEADER", `${wanted} leads already.`, {
      detail: nothingChanged,
      hint: "Name another node, or none: then the best candidate takes over.",
    });
  return record.name;
}

function unknownNode(name: string, records: readonly NodeRecord[]): Fault {
  return new Fault("SWITCHOVER_CANDIDATE_UNKNOWN", `The cluster has no node ${name}.`, {
    detail: `It has: ${records
      .map((record) => record.name)
      .sort()
      .join(", ")}. ${nothingChanged}`,
    hint: "See `pgherd status`.",
  });
}

function chooseCandidate(
  context: AgentContext,
  records: readonly NodeRecord[],
  leader: NodeName | null,
): NodeName {
  const now = context.clock.now();
  const leaderLsn = lastLeaderLsn(context, records, leader);
  const others = records
    .filter((record) => record.name !== leader)
    .map((record) => ({ record, heardMs: context.mirror.heardMs(record.name, now) }));
  const best = bestStreamingStandby(
    {
      others,
      policy: context.settings(),
      location: records.find((record) => record.name === leader)?.location ?? null,
      standbys: others.flatMap(({ record }) =>
        record.streaming && record.lsn !== null ? [{ node: record.name, flushLsn: record.lsn }] : [],
      ),
      standbysSeenAt: leaderLsn ?? (0n as Lsn),
    },
    context.settings().maxLagOnFailoverBytes,
  );
  if (best !== null) return best;
  throw new Fault("SWITCHOVER_NO_CANDIDATE", "No node can take over.", {
    detail: `${others.map(({ record }) => `${record.name} is ${record.state}${mayBecomePrimary(record.tags) ? "" : " and excluded by its tags"}`).join("; ") || "The leader is the only node"}. ${nothingChanged}`,
    hint: "See `pgherd status`.",
  });
}

function lastLeaderLsn(
  context: AgentContext,
  records: readonly NodeRecord[],
  leader: NodeName | null,
): Lsn | null {
  return records.find((record) => record.name === leader)?.lsn ?? context.mirror.state?.leaderLsn ?? null;
}

/** The prechecks on the candidate; the first that fails refuses the move. */
function checkTarget(
  context: AgentContext,
  state: ClusterState,
  target: NodeRecord,
  leader: NodeName | null,
  input: MoveInput,
): Check[] {
  const heardMs = context.mirror.heardMs(target.name, context.clock.now());
  const { ttlMs, maxLagOnFailoverBytes } = context.settings();
  const leaderRecord = leader === null ? null : (state.nodes.get(leader)?.value ?? null);
  const leaderLsn = leaderRecord?.lsn ?? state.leaderLsn;
  const lag =
    leaderLsn === null || target.lsn === null ? null : Math.max(0, lsnDistance(leaderLsn, target.lsn));
  const there = heardMs <= awayAfterMs(ttlMs);
  const allowed = mayBecomePrimary(target.tags);
  const streaming = target.streaming || leader === null;
  const near = input.acceptLoss || (lag !== null && lag <= maxLagOnFailoverBytes);
  const samePast =
    target.timeline !== null &&
    (leaderRecord?.timeline == null || target.timeline === leaderRecord.timeline || input.acceptLoss);
  const excluded = target.tags.nofailover ? "has the tag nofailover" : "has failover_priority 0";
  const rows: { check: Check; code: FaultCode; message: string; hint: string }[] = [
    {
      check: { name: "agent answers", ok: there, detail: `heard ${Math.round(heardMs)} ms ago` },
      code: "SWITCHOVER_CANDIDATE_LAGGING",
      message: `${target.name} has not been heard for a while.`,
      hint: "See `pgherd status`.",
    },
    {
      check: {
        name: "may become primary",
        ok: allowed,
        detail: allowed ? `failover_priority ${target.tags.failoverPriority}` : excluded,
      },
      code: "SWITCHOVER_CANDIDATE_EXCLUDED",
      message: `${target.name} ${excluded}.`,
      hint: `Choose another node, or remove the tag from its node file and run \`pgherd reload ${target.name}\`.`,
    },
    {
      check: {
        name: "standby and streaming",
        ok: target.role === "standby" && streaming,
        detail: target.state,
      },
      code: "SWITCHOVER_CANDIDATE_LAGGING",
      message: `${target.name} is ${target.state}, not streaming.`,
      hint: "Wait until it streams, or choose another node.",
    },
    {
      check: {
        name: "timeline",
        ok: samePast,
        detail: `on ${target.timeline ?? "none"}, leader on ${leaderRecord?.timeline ?? "none"}`,
      },
      code: "SWITCHOVER_CANDIDATE_LAGGING",
      message: `${target.name} is on timeline ${target.timeline ?? "none"}, the leader on ${leaderRecord?.timeline ?? "none"}.`,
      hint: "Wait until it has caught up.",
    },
    {
      check: {
        name: "lag",
        ok: near,
        detail: lag === null ? "unknown" : `${lag} bytes of at most ${maxLagOnFailoverBytes}`,
      },
      code: "SWITCHOVER_CANDIDATE_LAGGING",
      message: `${target.name} is ${lag === null ? "an unknown number of" : lag} bytes behind, more than max_lag_on_failover (${maxLagOnFailoverBytes}).`,
      hint: "Wait until it has caught up, or choose another node.",
    },
  ];
  const failed = rows.find((row) => !row.check.ok);
  if (failed !== undefined)
    throw new Fault(failed.code, failed.message, { detail: nothingChanged, hint: failed.hint });
  return rows.map((row) => row.check);
}

/** What the routers say of their sessions: those on the primary are carried but for the pinned ones. */
function sessionsOf(context: AgentContext): MovePlan["sessions"] {
  const routers = liveRouters(context);
  if (routers.length === 0) return null;
  const pinned = new Map<string, PinnedSessions>();
  for (const one of routers.flatMap((router) => router.pinned)) {
    const known = pinned.get(one.reason);
    pinned.set(one.reason, {
      reason: one.reason,
      count: one.count + (known?.count ?? 0),
      examples: [...(known?.examples ?? []), ...one.examples].slice(0, mostExamples),
    });
  }
  const cut = [...pinned.values()].reduce((sum, { count }) => sum + count, 0);
  const concerned = routers.reduce((sum, router) => sum + router.onPrimary, 0);
  return {
    routers: routers.map((router) => router.name),
    carried: Math.max(0, concerned - cut),
    pinned: [...pinned.values()],
  };
}

/** Per reason, in a plan. */
const mostExamples = 20;

/** `drainMs` = what routers may wait for transactions to end; null = no router lives. */
function stepsOf(
  from: NodeName | null,
  to: NodeName,
  records: readonly NodeRecord[],
  drainMs: number | null,
): string[] {
  const followers = records
    .filter((record) => record.name !== from && record.name !== to)
    .map((record) => `${record.name} follows ${to}`);
  return from === null
    ? [
        `${to} ends receiving and reports its position`,
        `${to} takes the lease`,
        `promote ${to}`,
        ...followers,
      ]
    : [
        `checkpoint ${from}`,
        ...(drainMs === null
          ? []
          : [`routers connect to ${to}`, `hold (at most ${drainMs / 1000} s for transactions to end)`]),
        `stop ${from}`,
        `${to} receives the last WAL and takes the lease`,
        `promote ${to}`,
        ...(drainMs === null ? [] : ["routers carry the sessions"]),
        `${from} follows ${to}`,
        ...followers,
      ];
}

/** Records a move and waits for its end. @throws Fault as planMove, SWITCHOVER_FAILED, TIMEOUT, DCS_CONFLICT */
export async function carryOutMove(
  context: AgentContext,
  input: MoveInput,
  timeoutMs: number,
): Promise<MoveOutcome> {
  await context.mirror.refresh(dcsTimeoutMs(context.settings().ttlMs));
  const plan = planMove(context, input);
  const state = context.mirror.state;
  if (state === null) throw new Fault("DCS_UNREACHABLE", "This agent has not read the DCS yet.");
  const id = context.random.uuid();
  const request = {
    id,
    ...(plan.from !== null && { leader: plan.from }),
    member: plan.to,
    ...(input.scheduledAt !== null && { scheduled_at: input.scheduledAt }),
    ...(input.acceptLoss && { accept_loss: true }),
  };
  const result = await context.dcs.transact(
    {
      checks: [{ key: keys.failover, version: state.move.version }],
      writes: [{ key: keys.failover, value: JSON.stringify(request) }],
    },
    dcsTimeoutMs(context.settings().ttlMs),
  );
  if (result.outcome === "conflict")
    throw new Fault("SWITCHOVER_RUNNING", "Another switchover was asked for at the same moment.", {
      detail: nothingChanged,
      hint: "See `pgherd status`, and repeat the request if it is still wanted.",
    });
  if (input.scheduledAt !== null) {
    context.journal.event("switchover_scheduled", true, `switchover to ${plan.to} at ${input.scheduledAt}`, {
      candidate: plan.to,
      at: input.scheduledAt,
    });
    return {
      id,
      done: false,
      leader: plan.from,
      code: null,
      message: `scheduled for ${input.scheduledAt}`,
      at: context.clock.wall(),
    };
  }
  return waitForMove(context, id, plan, timeoutMs);
}

const busyHint =
  "Repeat it when these have ended (pgherd router sessions), or give them longer: pgherd config set switchover_drain=10s. With switchover_stragglers=cancel they get the error 40001 instead.";

async function waitForMove(
  context: AgentContext,
  id: string,
  plan: MovePlan,
  timeoutMs: number,
): Promise<MoveOutcome> {
  const started = context.clock.now();
  while (elapsedMs(started, context.clock.now()) < timeoutMs) {
    const outcome = context.mirror.state?.moveOutcome.value ?? null;
    if (outcome?.id === id) {
      if (outcome.done) return outcome;
      const code =
        outcome.code !== null && outcome.code in faultCatalogue
          ? (outcome.code as FaultCode)
          : "SWITCHOVER_FAILED";
      throw new Fault(code, outcome.message, {
        ...(outcome.leader === plan.from && { detail: nothingChanged }),
        ...(code === "SWITCHOVER_SESSIONS_BUSY" && { hint: busyHint }),
      });
    }
    await context.timers.sleep(20);
  }
  throw new Fault(
    "TIMEOUT",
    `The move to ${plan.to} has not ended within ${Math.round(timeoutMs / 1000)} s; it may still be in progress.`,
    {
      hint: "See `pgherd status` and `pgherd explain`.",
    },
  );
}
