import { planRejoin, type RejoinPlan } from "../cluster/rejoin.ts";
import type { PostgresFacts } from "../postgres/instance.ts";
import { Fault } from "../values/fault.ts";
import { formatLsn, type Lsn } from "../values/lsn.ts";
import { type NodeName, type Timeline } from "../values/names.ts";
import type { AgentContext } from "./context.ts";
import type { Execution, Executor } from "./execution.ts";
import { provenToken } from "./lineage.ts";
import { saveOwnWal } from "./local-archive.ts";
import { upstreamAddress } from "./observe.ts";
import { postgresSettings } from "./postgres-settings.ts";
import { beginStandby, reserve } from "./act-postgres.ts";
import { copyFrom } from "./act-copy.ts";

/** How long after a look at a starting standby the next one may follow; longer each time. */
const recoveryLookMs = 5000;

/** A stopped node comes back: as it is, rewound, or copied anew. */
export const rejoin: Executor<{ kind: "rejoin"; leader: NodeName }> = async (execution) => {
  const { context, action, step } = execution;
  step("comparing histories");
  const facts = await context.instance.inspect();
  if (facts.kind !== "stopped") return;
  try {
    const end = await context.instance.endOfWal();
    await carryOut(
      execution,
      action.leader,
      await plan(context, action.leader, facts, end?.timeline ?? facts.walTimeline, end?.lsn ?? null),
    );
  } catch (thrown) {
    const { reclone } = context.settings();
    context.notebook.failed("rejoin", Math.min(1000, reclone.waitMs), reclone.maxWaitMs);
    throw thrown;
  }
};

/**
 * A running standby that does not stream, or one that is starting: nothing to do when its WAL fits the leader's, and the
 * leader has what follows; else as for a stopped one.
 */
export const examine: Executor<{ kind: "examine"; leader: NodeName }> = async (execution) => {
  const { context, action, step } = execution;
  const { notebook, instance } = context;
  step("comparing histories");
  const facts = await instance.inspect();
  if (facts.kind !== "running" || facts.sql?.inRecovery === false) return;
  if (facts.sql === null) notebook.failed("recovery", recoveryLookMs, recoveryLookMs * 12);
  const position = facts.sql ?? (await instance.recoveryReach());
  if (position === null) return;
  try {
    const found = await plan(context, action.leader, facts, position.timeline, position.lsn);
    if (found.kind === "follow") {
      if (facts.sql === null) return;
      notebook.failed("rejoin", 2000, 10_000);
      const address = upstreamAddress(context, action.leader);
      if (address === null) return;
      await reserve(context, action.leader, address);
      await instance.follow(address, postgresSettings(context));
      notebook.proven = null;
      return;
    }
    step("stopping");
    await instance.stop("fast", context.options.stopTimeoutMs);
    await carryOut(execution, action.leader, found);
  } catch (thrown) {
    const { reclone } = context.settings();
    notebook.failed("rejoin", Math.min(2000, reclone.waitMs), reclone.maxWaitMs);
    throw thrown;
  }
};

async function plan(
  context: AgentContext,
  leader: NodeName,
  facts: PostgresFacts,
  timeline: Timeline,
  end: Lsn | null,
): Promise<RejoinPlan> {
  const source = upstreamAddress(context, leader);
  if (source === null) throw new Fault("NODE_UNKNOWN", `There is no address of ${leader}.`);
  const history = await context.instance.upstreamHistory(source);
  if (history.inRecovery) throw new Fault("NO_LEADER", `${leader} is not a primary yet.`);
  const control = facts.kind === "stopped" ? facts.control : null;
  const record = context.mirror.state?.nodes.get(leader)?.value;
  const found = planRejoin({
    timeline,
    end,
    halfRewound: facts.kind === "stopped" && facts.halfRewound,
    canRewind:
      context.settings().rewind && (control === null || control.dataChecksums || control.walLogHints),
    leaderTimeline: history.timeline,
    leaderForks: history.forks,
    leaderEnd: history.lsn,
    leaderOldest: record?.oldestWalLsn ?? null,
    hasArchive: postgresSettings(context).restoreCommand !== null,
  });
  context.log("info", "rejoin.plan", {
    ...found,
    timeline,
    end: end === null ? null : formatLsn(end),
    leader_timeline: history.timeline,
  });
  return found;
}

async function carryOut(execution: Execution, leader: NodeName, found: RejoinPlan): Promise<void> {
  const { context, step, signal } = execution;
  const { instance, journal, notebook } = context;
  switch (found.kind) {
    case "follow":
      break;
    case "rewind": {
      step("rewinding");
      const source = upstreamAddress(context, leader);
      if (source === null) throw new Fault("NODE_UNKNOWN", `There is no address of ${leader}.`);
      // From here on the leader keeps the WAL that the rewound node will ask for.
      await reserve(context, leader, source);
      await saveOwnWal(context, step);
      try {
        const outcome = await instance.rewind(source, found.fork, signal);
        journal.event("rewind_done", true, `rewound to ${leader}: ${found.why}`, {
          leader,
          discarded_wal: outcome.discardedWalDir,
        });
      } catch (thrown) {
        const message = thrown instanceof Error ? thrown.message : String(thrown);
        journal.event("rewind_failed", false, message, { leader });
        if (notebook.retry().rejoin.failures < 1) throw thrown;
        // The second failure in a row: only a copy helps.
        await copyFrom(execution, leader);
        return;
      }
      break;
    }
    case "copy":
      context.log("warn", "rejoin.copy", { why: found.why });
      await copyFrom(execution, leader);
      return;
  }
  // Over with the data that had it, also when PostgreSQL does not start at once: it is a standby to be connected from here on.
  notebook.diverged = null;
  step("starting");
  await beginStandby(context, leader, provenToken(context, leader));
  notebook.succeeded("rejoin", "recovery");
  journal.event("rejoined", true, `follows ${leader}: ${found.why}`, { leader, how: found.kind });
}
