import { formatLsn, lsnDistance } from "../values/lsn.ts";
import { nextToken, type FencingToken } from "../values/names.ts";
import type { Action, Rule, Verdict } from "./action.ts";
import { electionOf, mayBecomePrimary, type Election } from "./candidates.ts";
import { describeEntry, isProtected, isReplaced } from "./durability.ts";
import { grantAgainst, isUnasked } from "./failsafe.ts";
import { awayAfterMs } from "./policy.ts";
import type { LeaseRecord } from "./records.ts";
import { isLeftBehind } from "./recovery.ts";
import { currentToken, type ClusterState } from "./state.ts";
import { mostTries, takeWal } from "./take-wal.ts";
import type { View } from "./view.ts";

/** How long a planned successor may take before the others step in. */
const successionGraceMs = 3000;
/** How long an election waits for the report of a node that is there but silent. */
const ballotWaitMs = 1000;

/** While commits are protected a crashed primary's own restart is the last resort: a member has everything that counts. */
const protectedResumeMs = 1500;

type OpenStanding = Extract<View["standing"], { kind: "expired" | "lost" | "released" | "mine-lapsed" }>;

/**
 * The lease when nobody holds it: run out on this node's clock, released (F1), or its holder lost to enough members (F7).
 * Without data there is nothing to lead.
 */
function open(view: View): OpenStanding | null {
  const standing = view.standing;
  if (view.cluster?.initialization.value.kind !== "initialized") return null;
  return standing.kind === "expired" ||
    standing.kind === "lost" ||
    standing.kind === "released" ||
    standing.kind === "mine-lapsed"
    ? standing
    : null;
}

function takeLease(view: View, resume: boolean): Action {
  const token = view.cluster === null ? (0 as FencingToken) : nextToken(currentToken(view.cluster));
  return { kind: "take-lease", resume, token, recordVersion: view.cluster?.durability.version ?? 0 };
}

/** Whether every commit acknowledged so far is on a recorded standby too. */
function isSafe(view: View): boolean {
  return isProtected(view.cluster?.durability.value ?? []);
}

/** After a crash, how long the releaser's standbys have before it resumes in place. */
function resumeAfterMs(view: View): number {
  return isSafe(view) ? Math.max(protectedResumeMs, view.policy.handoverWaitMs) : view.policy.handoverWaitMs;
}

/** Whether an operator has asked for a failover to a named node: with `failover: manual` and in pause too the others report for it (F3). */
export function isAskedFor(view: View): boolean {
  const move = view.cluster?.move.value ?? null;
  return move !== null && move.leader === null && move.candidate !== null;
}

/** Whether this node has everything the releaser had: then no other report matters (F1). */
function holdsEverything(view: View, lease: LeaseRecord): boolean {
  return (
    view.postgres.kind === "running" &&
    view.postgres.role === "standby" &&
    lease.lsn !== null &&
    view.postgres.lsn >= lease.lsn &&
    view.postgres.timeline === lease.timeline
  );
}

/** Bytes this node's report is behind the last known end of the leader's WAL; null = unknown. */
function lossBytes(election: Election, cluster: ClusterState): number | null {
  const lease = cluster.lease.value;
  const known = lease?.state === "released" && lease.lsn !== null ? lease.lsn : cluster.leaderLsn;
  if (known === null || election.own === null) return null;
  return Math.max(0, lsnDistance(known, election.own.lsn));
}

/** Who leads next, when nobody holds the lease (F1 to F4). */
export const electionRules: readonly Rule[] = [
  {
    id: "E-14",
    summary:
      "a node that has granted the holder to go on without the DCS promises and takes nothing meanwhile (failsafe)",
    answer: (view) => {
      const standing = open(view);
      const grant = standing === null ? null : grantAgainst(view, standing.lease);
      if (grant === null) return null;
      const why = `granted to ${grant.holder} for ${Math.ceil(grant.forMs)} ms more`;
      const facts = { granted_token: grant.token, granted_ms: Math.ceil(grant.forMs) };
      return view.postgres.kind === "stopped" && view.retry.start.waitMs === 0
        ? { action: { kind: "start-standby", upstream: null }, why, facts }
        : { action: { kind: "wait" }, why, facts };
    },
  },
  {
    id: "E-00",
    summary: "without the DCS nobody is elected; standbys go on serving reads",
    answer: (view) => {
      if (open(view) === null || view.dcs.reachable) return null;
      return view.postgres.kind === "stopped" && view.retry.start.waitMs === 0
        ? { action: { kind: "start-standby", upstream: null }, why: "to serve reads while the DCS is away" }
        : { action: { kind: "wait" }, why: "the DCS does not answer" };
    },
  },
  {
    id: "E-15",
    summary:
      "a node that the last renewal does not name takes over nothing that ran out: its holder may go on without asking it (failsafe)",
    answer: (view) => {
      const standing = open(view);
      if (standing === null || !isUnasked(view, standing.lease)) return null;
      const move = view.cluster?.move.value ?? null;
      // An operator who accepts the loss says that the holder is gone (F8).
      if (move?.candidate === view.self && move.leader === null && move.acceptLoss) return null;
      const why = `the last renewal of ${standing.lease.holder} does not name ${view.self}`;
      return view.postgres.kind === "stopped" && view.retry.start.waitMs === 0
        ? { action: { kind: "start-standby", upstream: null }, why }
        : { action: { kind: "wait" }, why };
    },
  },
  {
    id: "E-01",
    summary: "a failover that an operator asked for by name goes to that node (F8)",
    answer: (view) => {
      const standing = open(view);
      const move = view.cluster?.move.value ?? null;
      if (standing === null || view.cluster === null || !view.dcs.reachable) return null;
      if (move?.candidate !== view.self || move.leader !== null) return null;
      // In pause E-14 and E-15 are not asked before.
      const mayGoOn = !move.acceptLoss && isUnasked(view, standing.lease);
      if (mayGoOn || grantAgainst(view, standing.lease) !== null) return null;
      if (view.postgres.kind === "empty" || view.retry.start.failures >= 3) {
        const message = `${view.self} has no PostgreSQL that could be promoted`;
        return { action: { kind: "refuse-move", code: "SWITCHOVER_FAILED", message }, why: message };
      }
      if (view.postgres.kind === "stopped")
        return view.retry.start.waitMs > 0
          ? { action: { kind: "wait" }, why: "the last start failed a moment ago" }
          : { action: { kind: "start-standby", upstream: null }, why: "to be promoted it must run first" };
      if (view.postgres.kind !== "running" || view.postgres.role !== "standby") return null;
      const election = electionOf(view, view.cluster);
      if (election.own === null)
        return { action: { kind: "ballot", token: election.token }, why: "an operator asked for this node" };
      const best = election.ranked[0];
      const loss = lossBytes(election, view.cluster);
      const facts = { loss_bytes: loss, accept_loss: move.acceptLoss };
      const lacking = takeWal(view, view.cluster, election, election.own);
      if (lacking !== null && view.retry.takeWal.failures < mostTries) return lacking;
      const unproven = election.protected && election.lacking !== null;
      // The others begin to report when they see the request: their promises are on the way.
      if (unproven && !move.acceptLoss && election.missing.length > 0)
        return { action: { kind: "wait" }, why: `no report yet from ${election.missing.join(", ")}`, facts };
      const behind =
        isLeftBehind(view.cluster, election.own.timeline) ||
        (loss ?? 0) > view.policy.maxLagOnFailoverBytes ||
        (best !== undefined && best.name !== view.self && election.protected);
      if ((unproven || behind) && !move.acceptLoss) {
        const message = isLeftBehind(view.cluster, election.own.timeline)
          ? `${view.self} has the line the cluster left when it was restored to an earlier state`
          : unproven
            ? `too few nodes have promised to tell whether ${view.self} has every acknowledged commit (known to be missing: ${loss ?? 0} bytes)`
            : `${view.self} lacks ${loss ?? 0} bytes of the last known WAL`;
        return {
          action: { kind: "refuse-move", code: "SWITCHOVER_CANDIDATE_LAGGING", message },
          why: message,
          facts,
        };
      }
      return { action: takeLease(view, false), why: "an operator asked for this node", facts };
    },
  },
  {
    id: "E-12",
    summary:
      "a failover that was asked for to a node that is away is refused, so that another can be asked for",
    answer: (view) => {
      const move = view.cluster?.move.value ?? null;
      if (open(view) === null || !view.dcs.reachable || move === null) return null;
      const { leader, candidate } = move;
      if (leader !== null || candidate === null || candidate === view.self) return null;
      const node = view.others.find((other) => other.record.name === candidate);
      if (node !== undefined && node.heardMs <= awayAfterMs(view.policy.ttlMs)) return null;
      const message = `${candidate} is away`;
      return { action: { kind: "refuse-move", code: "SWITCHOVER_FAILED", message }, why: message };
    },
  },
  {
    id: "E-02",
    summary: "the named successor of a released lease that has everything takes it at once",
    answer: (view) => {
      const standing = open(view);
      if (standing?.kind !== "released" || standing.lease.release?.candidate !== view.self) return null;
      if (!mayBecomePrimary(view.tags)) return null;
      if (!holdsEverything(view, standing.lease)) return null;
      return {
        action: takeLease(view, false),
        why: `${standing.lease.holder} released the lease to this node, which has all its WAL`,
        facts: { released: standing.lease.release.kind, token: standing.lease.token },
      };
    },
  },
  {
    id: "E-03",
    summary: "the successor named in a release is given time to take over",
    answer: (view) => {
      const standing = open(view);
      if (standing?.kind !== "released" || standing.lease.release === null) return null;
      const { candidate, kind } = standing.lease.release;
      // What a dead primary has not sent does not come any more, and while protection is in force it does not count.
      if (kind === "crash" && isSafe(view) && !standing.mine) return null;
      const graceMs = kind === "crash" ? view.policy.handoverWaitMs : successionGraceMs;
      if (candidate === null || standing.openMs >= graceMs) return null;
      if (candidate === view.self)
        return view.postgres.kind === "running"
          ? { action: { kind: "wait" }, why: "the last WAL is on its way" }
          : null;
      // The releaser itself gets ready to follow meanwhile, unless it may have to resume in place.
      if (standing.mine && kind !== "crash" && view.postgres.kind === "stopped")
        return { action: { kind: "start-standby", upstream: candidate }, why: `to follow ${candidate}` };
      return { action: { kind: "wait" }, why: `${candidate} was named to take over` };
    },
  },
  {
    id: "E-04",
    summary: "a releaser whose successor did not come resumes in place: that loses nothing (P7)",
    answer: (view) => {
      const standing = open(view);
      if (standing?.kind !== "released" || !standing.mine || standing.lease.release?.kind !== "crash")
        return null;
      if (view.postgres.kind !== "stopped" || !view.postgres.wasPrimary || view.retry.start.failures >= 3)
        return null;
      if (view.postgres.timeline !== standing.lease.timeline) return null;
      if (isReplaced(view.cluster?.durability.value ?? [], view.member)) return null;
      if (standing.openMs < resumeAfterMs(view))
        return { action: { kind: "wait" }, why: "a standby that has everything may take over" };
      return {
        action: takeLease(view, true),
        why: "no standby with all the WAL has taken over",
        facts: { waited_ms: Math.round(standing.openMs) },
      };
    },
  },
  {
    id: "E-05",
    summary: "a node whose tags exclude it from leading waits for another",
    answer: (view) => {
      if (open(view) === null || mayBecomePrimary(view.tags)) return null;
      return view.postgres.kind === "stopped" && view.retry.start.waitMs === 0
        ? { action: { kind: "start-standby", upstream: null }, why: "to serve reads meanwhile" }
        : { action: { kind: "wait" }, why: "the tags exclude this node from leading" };
    },
  },
  {
    id: "E-06",
    summary: "failover: manual waits for a person",
    answer: (view) => {
      if (open(view) === null || view.policy.failover === "automatic" || isAskedFor(view)) return null;
      if (view.postgres.kind === "stopped" && view.retry.start.waitMs === 0)
        return { action: { kind: "start-standby", upstream: null }, why: "to serve reads meanwhile" };
      const message = "no node leads, and failover is set to manual";
      return {
        action: { kind: "alarm", code: "NO_LEADER", message, hint: "pgherd failover --to NODE" },
        why: message,
      };
    },
  },
  {
    id: "E-07",
    summary: "to take part in an election PostgreSQL must run read-only (P1)",
    answer: (view) => {
      if (open(view) === null || view.postgres.kind !== "stopped") return null;
      return view.retry.start.waitMs > 0
        ? { action: { kind: "wait" }, why: "the last start failed a moment ago" }
        : { action: { kind: "start-standby", upstream: null }, why: "nobody leads" };
    },
  },
  {
    id: "E-08",
    summary: "each eligible node ends receiving and reports its position for the coming token (F2)",
    answer: (view) => {
      if (open(view) === null || view.cluster === null || view.postgres.kind !== "running") return null;
      // In pause E-00 is not asked before.
      if (!view.dcs.reachable) return null;
      const election = electionOf(view, view.cluster);
      const { failures, waitMs } = view.retry.promote;
      if (election.own === null && failures >= 3 && waitMs > 0)
        return { action: { kind: "wait" }, why: "promoting failed here a moment ago: others come first" };
      return election.own === null
        ? { action: { kind: "ballot", token: election.token }, why: `to report for token ${election.token}` }
        : null;
    },
  },
  {
    id: "E-09",
    summary: "an election waits for the reports of nodes that are there",
    answer: (view) => {
      const standing = open(view);
      if (standing === null || view.cluster === null || view.postgres.kind !== "running") return null;
      const election = electionOf(view, view.cluster);
      if (election.missing.length === 0 || standing.openMs >= ballotWaitMs) return null;
      return { action: { kind: "wait" }, why: `no report yet from ${election.missing.join(", ")}` };
    },
  },
  {
    id: "E-16",
    summary:
      "a candidate behind a WAL receiver that has promised takes the missing WAL from there before the lease (F3)",
    answer: (view) => {
      if (open(view) === null || view.cluster === null || view.postgres.kind !== "running") return null;
      if (view.policy.failover === "manual") return null;
      const election = electionOf(view, view.cluster);
      if (election.own === null || election.ranked[0]?.name !== view.self) return null;
      if (election.protected && election.lacking !== null) return null;
      return takeWal(view, view.cluster, election, election.own);
    },
  },
  {
    id: "E-10",
    summary:
      "the most advanced of those who promised takes the lease: while protected when F3 holds, else within max_lag_on_failover, once those who are there have reported or a ttl has passed (F3, F4)",
    answer: (view) =>
      open(view) === null || view.cluster === null || view.postgres.kind !== "running"
        ? null
        : view.policy.failover === "manual"
          ? { action: { kind: "wait" }, why: "an operator asked for another node" }
          : ranking(view, view.cluster),
  },
  {
    id: "E-13",
    summary: "a cluster whose lease is missing from the DCS, and with it the last token, needs a person",
    answer: (view) => {
      if (view.standing.kind !== "none" || view.cluster?.initialization.value.kind !== "initialized")
        return null;
      const message = "the record of the lease is missing from the DCS or cannot be understood";
      const hint = "Put the key pgherd/lease back from a backup of the DCS.";
      return { action: { kind: "alarm", code: "NO_LEADER", message, hint }, why: message };
    },
  },
  {
    id: "E-11",
    summary: "a node whose PostgreSQL is not ready waits for the election of another",
    answer: (view) =>
      open(view) === null ? null : { action: { kind: "wait" }, why: `PostgreSQL is ${view.postgres.kind}` },
  },
];

function ranking(view: View, cluster: ClusterState): Verdict {
  const standing = open(view);
  const election = electionOf(view, cluster);
  const best = election.ranked[0];
  const loss = lossBytes(election, cluster);
  const facts: Record<string, string | number | null> = { token: election.token, loss_bytes: loss };
  for (const candidate of election.ranked)
    facts[`position of ${candidate.name}`] = `${formatLsn(candidate.lsn)} on timeline ${candidate.timeline}`;
  const isEarly = standing !== null && standing.openMs < view.policy.ttlMs;
  const unproven = election.protected && election.lacking !== null;
  if (best === undefined ? !unproven : best.name !== view.self)
    return { action: { kind: "wait" }, why: `${best?.name ?? "nobody"} is the most advanced`, facts };
  if (election.protected && election.lacking !== null) {
    const missing = describeEntry(election.lacking);
    const why = `too few have promised token ${election.token}: a commit may be on others (it waited for ${missing})`;
    const hint = "Bring the missing nodes back; or accept the loss: pgherd failover --to NODE --accept-loss.";
    return isEarly
      ? { action: { kind: "wait" }, why, facts }
      : { action: { kind: "alarm", code: "NO_QUORUM", message: why, hint }, why, facts };
  }
  const exposed = !election.protected && election.lacking !== null;
  const isCrash = standing?.kind === "released" && standing.lease.release?.kind === "crash";
  const releaserMayResume = exposed && isEarly && isCrash && !standing.mine;
  if ((loss ?? 0) > 0 && releaserMayResume)
    return {
      action: { kind: "wait" },
      why: `${standing.lease.holder} has ${loss ?? 0} bytes more and may resume in place`,
      facts,
    };
  const silent = [...election.missing, ...election.starting];
  if (exposed && isEarly && loss !== 0 && silent.length > 0)
    return {
      action: { kind: "wait" },
      why: `no report yet from ${silent.join(", ")}, which may have more of the last ${loss ?? "unknown"} bytes`,
      facts,
    };
  const limit = view.policy.maxLagOnFailoverBytes;
  if (exposed && ((loss ?? 0) > limit || (limit === 0 && cluster.durability.value.length > 0))) {
    const message = `the most advanced node lacks ${loss ?? 0} bytes, more than max_lag_on_failover (${limit}) allows`;
    const hint = "Bring the former leader back; or accept the loss: pgherd failover --to NODE --accept-loss.";
    return { action: { kind: "alarm", code: "NO_LEADER", message, hint }, why: message, facts };
  }
  return {
    action: takeLease(view, false),
    why: exposed
      ? `the most advanced of those who reported; the last ${loss ?? "unknown"} bytes are lost`
      : "the most advanced of those who promised",
    facts,
  };
}
