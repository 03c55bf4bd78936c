import type { LeaseRecord, MoveOutcome, ReleaseFacts } from "../cluster/records.ts";
import { durabilityHardLimit, electedEntry } from "../cluster/durability.ts";
import { currentToken, highestTimeline, type ClusterState } from "../cluster/state.ts";
import type { Action } from "../cluster/action.ts";
import type { SyncStandby } from "../cluster/durability.ts";
import type { Standing } from "../cluster/view.ts";
import type { DcsWrite } from "../dcs/dcs.ts";
import { encodeRecord, keys } from "../dcs/layout.ts";
import { Fault, toFault, type FaultCode } from "../values/fault.ts";
import { formatLsn, type Lsn } from "../values/lsn.ts";
import { nextTimeline, nextToken, type NodeName, type Timeline } from "../values/names.ts";
import { elapsedMs } from "../values/time.ts";
import type { AgentContext } from "./context.ts";
import { dcsTimeoutMs } from "./context.ts";
import type { Execution, Executor } from "./execution.ts";
import { runFenceCommand } from "./fence-command.ts";
import { postgresSettings } from "./postgres-settings.ts";
import { historyWrites, reasonOf } from "./history-writes.ts";
import { givenUp, recoveryDone, tellRecovered } from "./recovery-record.ts";
import { RouterGate, type GateReport } from "./router-gate.ts";
import { durabilityWrites, startingNames } from "./durability-keeper.ts";
import { currentStanding, upstreamAddress } from "./observe.ts";
import { endOfOwnWal } from "./own-data.ts";
import { expectedReceivers, expectedStandbys } from "./sync-standbys.ts";

/** F4: one transaction makes this node the holder, if the lease and the durability record are still what was decided from. */
export const takeLease: Executor<Extract<Action, { kind: "take-lease" }>> = async ({
  context,
  action,
  decision,
  step,
}) => {
  const { mirror, keeper, options, journal, membership, settings } = context;
  const timeoutMs = dcsTimeoutMs(context.settings().ttlMs);
  const before = await mirror.refresh(timeoutMs);
  const lease = before.lease.value;
  if (!stillOpen(context, before) || nextToken(currentToken(before)) !== action.token) return;
  // A holder that gave the lease up has ended its PostgreSQL itself: only one that fell silent is fenced.
  if (lease !== null && lease.holder !== options.node && lease.state !== "released") {
    step("fence command");
    await runFenceCommand(context, lease.holder);
  }
  const timeline = action.resume && lease !== null ? lease.timeline : nextTimeline(highestTimeline(before));
  const reserved = Math.max(timeline, lease?.reservedTimeline ?? 1) as Timeline;
  const record: LeaseRecord = {
    holder: options.node,
    token: action.token,
    renewal: (lease?.renewal ?? 0) + 1,
    ttlMs: context.settings().ttlMs,
    state: "elected",
    timeline,
    reservedTimeline: reserved,
    origin: action.resume ? null : await ownEnd(context),
    lsn: null,
    release: null,
    servingSince: null,
  };
  const entry = electedEntry(
    membership.member,
    action.token,
    settings().durability,
    followers(context, before),
  );
  const recorded = before.durability.value;
  if (recorded.length >= durabilityHardLimit)
    throw new Fault(
      "DCS_GARBAGE",
      `The durability record holds ${recorded.length} entries and takes no more.`,
      {
        hint: "Bring the nodes it names back, so that a leader can finish the changes it holds.",
      },
    );
  const won = await keeper.take(record, before.lease, {
    checks: [{ key: keys.durability, version: action.recordVersion }],
    writes: [
      { key: keys.leader, value: options.node },
      ...(entry === null ? [] : durabilityWrites([...recorded, entry])),
      ...givenUp(context, before, record.origin?.timeline ?? null),
    ],
  });
  context.log("info", "lease.take", { won, token: record.token, timeline, rule: decision.rule });
  if (won) {
    context.notebook.ballot = null;
    journal.event("leader_changed", true, `${options.node} holds the lease with token ${record.token}`, {
      leader: options.node,
      former_leader: lease?.holder ?? null,
      token: record.token,
    });
  }
};

/** Who follows the new holder in a moment: those who promised with it, else the standbys that are there. */
function followers(context: AgentContext, state: ClusterState): readonly SyncStandby[] {
  const token = nextToken(currentToken(state));
  const own = state.nodes.get(context.options.node)?.value.ballot?.token === token;
  const standbys = expectedStandbys(context, state, (node) =>
    own ? node.ballot?.token === token : node.role === "standby",
  );
  const former = state.lease.value?.token ?? null;
  const receivers = expectedReceivers(context, state, (receiver) =>
    own ? receiver.ballot?.token === token : receiver.token !== null && receiver.token === former,
  );
  return [...standbys, ...receivers];
}

/** Where the WAL here ends, measured at rest or with nobody left to send any. */
async function ownEnd(context: AgentContext): Promise<LeaseRecord["origin"]> {
  const { ballot } = context.notebook;
  if (ballot !== null) return { timeline: ballot.timeline, lsn: ballot.lsn };
  const facts = await context.instance.inspect();
  const sql = facts.kind === "running" ? facts.sql : null;
  return sql === null ? null : { timeline: sql.timeline, lsn: sql.lsn };
}

/** Whether the lease as just read linearizably is still one that may be taken. */
export function stillOpen(context: AgentContext, state: ClusterState): boolean {
  return state.lease.value === null || isOpen(currentStanding(context));
}

/** F1, F7: nobody holds the lease any more that has to be respected. */
export function isOpen(standing: Standing): boolean {
  const open = ["released", "expired", "lost", "none"] as const satisfies readonly Standing["kind"][];
  return (open as readonly string[]).includes(standing.kind);
}

/** P1, P4: only the holder's PostgreSQL becomes able to write, and only while a guard would end it at the deadline. */
export function permission(context: AgentContext): () => boolean {
  return () => context.keeper.standing().kind === "mine" && context.guard.isArmed();
}

/** F5: promotes to the reserved timeline and serves. */
export const promote: Executor<{ kind: "promote"; timeline: Timeline }> = async (execution) => {
  const { context, action, step } = execution;
  const { instance, notebook, journal, clock } = context;
  const started = clock.now();
  step("promoting");
  try {
    const limitMs = Math.max(10_000, context.settings().ttlMs * 4);
    const standing = context.keeper.standing();
    if (standing.kind !== "mine")
      throw new Fault("LOST_LEADERSHIP", "The lease was lost before the promotion.");
    notebook.synchronousNames = startingNames(context, standing.lease.token);
    context.durability.forget();
    await instance.promote(action.timeline, postgresSettings(context), limitMs, permission(context));
  } catch (thrown) {
    notebook.failed("promote", 500, 5000);
    journal.event("promote_failed", false, thrown instanceof Error ? thrown.message : String(thrown));
    throw thrown;
  }
  notebook.succeeded("promote");
  notebook.upstream = undefined;
  step("declaring");
  const move = context.mirror.state?.move.value ?? null;
  await declareServing(context);
  if (move !== null)
    journal.event("switchover_done", true, `the primary moved to ${context.options.node}`, {
      leader: context.options.node,
      former_leader: move.leader,
    });
  journal.event("promoted", true, `${context.options.node} is primary on timeline ${action.timeline}`, {
    timeline: action.timeline,
    ms: Math.round(elapsedMs(started, clock.now())),
  });
  // Others can be rewound only after the new timeline is in the control file. From PostgreSQL 15 on whoever needs it asks for
  // the checkpoint: one at once would keep the checkpointer from letting commits go that wait for a dead standby (S2).
  if ((context.mirror.state?.nodes.get(context.options.node)?.value.serverVersion ?? 0) >= 150_000) return;
  void instance.checkpoint(600_000).catch((thrown: unknown) => {
    context.log("warn", "postgres.checkpoint_failed", { message: String(thrown) });
  });
};

/** The promotion is done: says so in the lease, and in what outside tools read. */
export const serve: Executor<{ kind: "declare-serving" }> = async ({ context }) => {
  await declareServing(context);
};

/** Sets the lease to serving, appends history, settles a recorded move: one transaction. */
export async function declareServing(context: AgentContext): Promise<void> {
  const { mirror, keeper, options, instance, clock } = context;
  const state = mirror.state;
  if (state === null) return;
  const history = [...state.history.value];
  const last = history.at(-1);
  let timeline: Timeline | null = null;
  const held = keeper.standing();
  if (held.kind !== "mine") throw new Fault("LOST_LEADERSHIP", "The lease was lost during the promotion.");
  if (!context.guard.isArmed()) throw new Fault("GUARD_MISSING", "The guard was lost during the promotion.");
  timeline = held.lease.timeline;
  const forks = await instance.timelineForks(timeline);
  const fork = forks?.at(-1);
  if (fork !== undefined && last?.newTimeline !== timeline) {
    history.push({
      timeline: fork.timeline,
      forkLsn: fork.endLsn,
      reason: reasonOf(state),
      at: clock.wall(),
      newTimeline: timeline,
      newLeader: options.node,
      token: held.lease.token,
    });
  }
  const kept = history.slice(-context.settings().historyLimit);
  const writes: DcsWrite[] = [
    { key: keys.leader, value: options.node },
    ...historyWrites(kept),
    ...moveDone(context, state),
    ...recoveryDone(context, state, timeline),
    // The move is over, whoever began it: the routers open.
    ...(state.gate.version === 0 ? [] : [{ key: keys.gate, value: null }]),
  ];
  const done = await keeper.change(
    (lease) => ({ ...lease, state: "serving", servingSince: lease.servingSince ?? clock.wall() }),
    { checks: [], writes },
  );
  if (!done) throw new Fault("LOST_LEADERSHIP", "Another node leads now.");
  tellRecovered(context, state);
}

/** Settles a recorded move, whoever leads now. */
function moveDone(context: AgentContext, state: ClusterState): DcsWrite[] {
  const move = state.move.value;
  if (move === null) return [];
  const self = context.options.node;
  const planned = move.candidate === null || move.candidate === self;
  return [
    { key: keys.failover, value: "{}" },
    {
      key: keys.moveOutcome,
      value: encodeRecord({
        id: move.id,
        done: planned,
        leader: context.options.node,
        code: planned ? null : ("SWITCHOVER_FAILED" satisfies FaultCode),
        message: planned ? `${self} is the primary now` : `${self} took over instead of ${move.candidate}`,
        at: context.clock.wall(),
      } satisfies MoveOutcome),
    },
  ];
}

/** Forgets the recorded request and says why it was refused. */
export const refuseMove: Executor<{ kind: "refuse-move"; code: FaultCode; message: string }> = async ({
  context,
  action,
}) => {
  await settleMove(context, action.code, action.message);
};

async function settleMove(context: AgentContext, code: FaultCode, message: string): Promise<void> {
  const state = context.mirror.state;
  if (state?.move.value == null) return;
  const outcome: MoveOutcome = {
    id: state.move.value.id,
    done: false,
    leader: state.lease.value?.holder ?? null,
    code,
    message,
    at: context.clock.wall(),
  };
  await context.dcs.transact(
    {
      checks: [{ key: keys.failover, version: state.move.version }],
      writes: [
        { key: keys.failover, value: "{}" },
        { key: keys.moveOutcome, value: encodeRecord(outcome) },
      ],
    },
    dcsTimeoutMs(context.settings().ttlMs),
  );
  context.journal.event("switchover_failed", false, message, { code });
}

/** Releases the lease with the end of WAL (P7, F1): from here only F4 makes a new holder. */
export async function release(
  context: AgentContext,
  kind: ReleaseFacts["kind"],
  candidate: NodeName | null,
  lsn: Lsn | null,
): Promise<void> {
  const { keeper, clock } = context;
  const done = await keeper.change((lease) => ({
    ...lease,
    state: "released",
    lsn,
    release: { kind, candidate, at: clock.wall() },
  }));
  context.log("info", "lease.released", { done, kind, candidate, lsn: lsn === null ? null : formatLsn(lsn) });
}

/** P7: PostgreSQL is dead; sees that no process is left, reads where its WAL ends, and lets another take over. */
export const handover: Executor<{ kind: "handover"; candidate: NodeName | null }> = async ({
  context,
  action,
  step,
}) => {
  const { instance, journal } = context;
  step("ending what is left");
  const facts = await instance.inspect();
  let lsn: Lsn | null = null;
  if (facts.kind === "running" && facts.sql?.inRecovery === true) lsn = facts.sql.lsn;
  else {
    await instance.kill();
    step("reading the end of WAL");
    lsn = facts.kind === "empty" || facts.kind === "unusable" ? null : await endOfOwnWal(context);
  }
  step("releasing");
  await release(context, "crash", action.candidate, lsn);
  journal.event(
    "handover",
    true,
    `released the lease${action.candidate === null ? "" : ` to ${action.candidate}`}`,
    {
      candidate: action.candidate,
      lsn: lsn === null ? null : formatLsn(lsn),
    },
  );
};

/**
 * The planned move: a small checkpoint, clients of the routers held, a clean stop, release with the end of the shutdown
 * checkpoint, follow.
 */
export const switchover: Executor<{ kind: "switchover"; candidate: NodeName }> = async (execution) => {
  const { context, action } = execution;
  context.journal.event("switchover_started", true, `moving the primary to ${action.candidate}`, {
    candidate: action.candidate,
  });
  const gate = RouterGate.of(context, action.candidate);
  try {
    await stopAndRelease(execution, action.candidate, gate);
  } catch (thrown) {
    // What was stopped is started again by the next rounds; the request must not begin anew by itself.
    const { code, message } = toFault(thrown);
    if (gate !== null) await gate.open();
    await settleMove(context, code === busyCode ? code : "SWITCHOVER_FAILED", message);
    if (code === busyCode) return;
    throw thrown;
  }
  execution.step("starting as standby");
  const upstream = upstreamAddress(context, action.candidate);
  context.notebook.startedToWrite = false;
  await context.instance.startStandby(upstream, postgresSettings(context), 0);
  context.notebook.upstream = action.candidate;
  context.journal.event("demoted", true, `${context.options.node} follows ${action.candidate}`, {
    leader: action.candidate,
  });
};

/** The gate is void after a while: a slow disk does not use it up. */
const lastCheckpointMs = 3_000;

/** Nothing went wrong here: clients were not ready, and go on. */
const busyCode = "SWITCHOVER_SESSIONS_BUSY" satisfies FaultCode;

async function stopAndRelease(
  execution: Execution,
  candidate: NodeName,
  gate: RouterGate | null,
): Promise<void> {
  const { context, step, signal } = execution;
  const { instance, options } = context;
  step("checkpoint");
  await instance.checkpoint(600_000);
  if (gate !== null) await holdClients(execution, gate);
  if (signal.aborted) throw new Fault("LOST_LEADERSHIP", "The lease was lost before the move began.");
  step("stopping");
  await instance.stop("fast", options.stopTimeoutMs);
  step("reading the end of WAL");
  const lsn = await endOfOwnWal(context);
  step("releasing");
  await release(context, "switchover", candidate, lsn);
}

async function holdClients({ context, step, signal }: Execution, gate: RouterGate): Promise<void> {
  step("routers prepare");
  await gate.warm(signal);
  step("checkpoint");
  // What was written while they prepared: everybody waits for the checkpoint of the stop, so little shall be left for it.
  await context.instance.checkpoint(lastCheckpointMs).catch((thrown: unknown) => {
    context.log("info", "postgres.checkpoint_unfinished", { ...toFault(thrown).report() });
  });
  step("routers hold");
  const report: GateReport = await gate.hold(signal);
  context.log("info", "gate.held", { ...report });
  const left = report.silent.length === 0 ? "" : `; no answer from ${report.silent.join(", ")}`;
  context.journal.event(
    "clients_held",
    report.silent.length === 0,
    `routers hold ${report.carried} sessions, ${report.cut} will be cut${left}`,
    { carried: report.carried, cut: report.cut, silent: report.silent.join(", ") },
  );
}

/** What a leader does when its agent ends: a clean stop, and the lease to whoever streams. */
export async function releaseForShutdown(context: AgentContext, candidate: NodeName | null): Promise<void> {
  await release(context, "shutdown", candidate, await endOfOwnWal(context));
}
