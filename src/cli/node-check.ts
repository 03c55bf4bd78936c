import type { ClusterStatus, NodeStatus } from "../cluster/status.ts";
import { parseNodeName, slotNameOf } from "../values/names.ts";
import type { NodePicture } from "../api/wire.ts";
import { bytesText, countText, spanText } from "./render/quantity.ts";

/** What `node check` looks at, in the order of its output. */
export const nodeCheckNames = [
  "agent",
  "data-directory",
  "role",
  "upstream",
  "replication-lag",
  "downstream",
  "slots",
  "missing-slots",
  "restart",
] as const;
export type NodeCheckName = (typeof nodeCheckNames)[number];

/** Nagios' levels and their exit codes. */
export const nagiosCodes = { OK: 0, WARNING: 1, CRITICAL: 2, UNKNOWN: 3 } as const;
export type NagiosLevel = keyof typeof nagiosCodes;

export interface NodeCheckResult {
  readonly check: NodeCheckName;
  readonly level: NagiosLevel;
  readonly text: string;
  /** Performance data such as `lag=0B;16777216;268435456`; null = none. */
  readonly perfdata: string | null;
}

export interface NodeCheckInput {
  readonly status: ClusterStatus;
  readonly node: NodeStatus;
  /** What the node's own agent says; null when it does not answer. */
  readonly picture: NodePicture | null;
  /** Why there is no picture. */
  readonly silence: string | null;
  readonly lagWarningBytes: number;
  readonly lagCriticalBytes: number;
}

type Verdict = Omit<NodeCheckResult, "check" | "perfdata"> & { readonly perfdata?: string };

const checks: Readonly<Record<NodeCheckName, (input: NodeCheckInput) => Verdict>> = {
  agent: checkAgent,
  "data-directory": checkDataDirectory,
  role: checkRole,
  upstream: checkUpstream,
  "replication-lag": checkLag,
  downstream: checkDownstream,
  slots: checkSlots,
  "missing-slots": checkMissingSlots,
  restart: checkRestart,
};

/** Runs the checks; pure. */
export function checkNode(input: NodeCheckInput, only: readonly string[]): NodeCheckResult[] {
  return nodeCheckNames
    .filter((name) => only.length === 0 || only.includes(name))
    .map((check) => ({ check, perfdata: null, ...checks[check](input) }));
}

/** The worst level: critical before unknown before warning. */
export function worstLevel(results: readonly NodeCheckResult[]): NagiosLevel {
  const order: readonly NagiosLevel[] = ["CRITICAL", "UNKNOWN", "WARNING"];
  return order.find((level) => results.some((result) => result.level === level)) ?? "OK";
}

/** Nagios' form: one line with the worst level and what led to it, performance data, then one line per check. */
export function nagiosLines(node: string, results: readonly NodeCheckResult[]): string[] {
  const level = worstLevel(results);
  const [single] = results;
  const tag =
    results.length === 1 && single !== undefined
      ? `PGHERD_${single.check.toUpperCase().replaceAll("-", "_")}`
      : "PGHERD";
  const telling = results.filter((result) => result.level === level);
  const spoken =
    level === "OK" && results.length > 1
      ? results.filter((result) => result.check === "role" || result.check === "upstream")
      : telling;
  const texts = (spoken.length === 0 ? telling : spoken).map((result) => result.text);
  const perfdata = results.flatMap((result) => result.perfdata ?? []);
  // A bar would begin the performance data.
  const text = texts.join("; ").replaceAll("|", "/");
  const first = `${tag} ${level} - ${node}: ${text}${perfdata.length === 0 ? "" : ` | ${perfdata.join(" ")}`}`;
  if (results.length === 1) return [first];
  return [first, ...results.map((result) => `${result.level.padEnd(8)} ${result.check}: ${result.text}`)];
}

function checkAgent({ picture, silence }: NodeCheckInput): Verdict {
  if (picture === null)
    return { level: "CRITICAL", text: `the agent does not answer: ${silence ?? "no reason known"}` };
  if (picture.loopAgeMs > picture.ttlMs)
    return { level: "CRITICAL", text: `the agent's loop stands still for ${spanText(picture.loopAgeMs)}` };
  if (!picture.dcsReachable) {
    const age = picture.dcsAgeMs === null ? "since it started" : `for ${spanText(picture.dcsAgeMs)}`;
    return { level: "WARNING", text: `the agent has not reached the DCS ${age}` };
  }
  return { level: "OK", text: "the agent answers and reaches the DCS" };
}

function checkDataDirectory({ status, picture }: NodeCheckInput): Verdict {
  if (picture === null) return unknown();
  if (picture.postgres === "unusable")
    return { level: "CRITICAL", text: picture.problem ?? "the data directory cannot be used" };
  if (picture.postgres === "empty") return { level: "CRITICAL", text: "there is no data directory yet" };
  const own = picture.record.systemIdentifier;
  if (own !== null && status.system_identifier !== null && own !== status.system_identifier)
    return {
      level: "CRITICAL",
      text: `it belongs to the cluster ${own}, not to ${status.system_identifier}`,
    };
  return { level: "OK", text: "it belongs to this cluster" };
}

function checkRole({ status, node, picture }: NodeCheckInput): Verdict {
  if (node.unexpected_primary) return { level: "CRITICAL", text: "runs as primary without the lease" };
  if (picture !== null && picture.postgres !== "running")
    return { level: "CRITICAL", text: `PostgreSQL does not run: ${node.state}` };
  if (picture !== null && picture.sql === null)
    return { level: "CRITICAL", text: `PostgreSQL does not answer: ${picture.problem ?? node.state}` };
  if (node.state === "unknown") return { level: "CRITICAL", text: "the node has not been heard" };
  if (node.name === status.leader)
    return node.role === "primary"
      ? { level: "OK", text: "primary" }
      : { level: "CRITICAL", text: `leads, but PostgreSQL is a ${node.role}` };
  return { level: "OK", text: node.role };
}

function checkUpstream({ status, node }: NodeCheckInput): Verdict {
  if (node.name === status.leader) return { level: "OK", text: "leader, needs no upstream" };
  if (node.state !== "streaming") {
    const why = node.upstream === null ? "no upstream" : `not attached to ${node.upstream}`;
    return { level: "CRITICAL", text: `${node.state}, ${why}` };
  }
  const wanted = node.tags["replicatefrom"];
  if (typeof wanted === "string" && node.upstream !== wanted)
    return {
      level: "WARNING",
      text: `streams from ${node.upstream ?? "?"}, not from ${wanted} as its tag says`,
    };
  return { level: "OK", text: `streaming from ${node.upstream ?? "?"}` };
}

function checkLag({ status, node, lagWarningBytes, lagCriticalBytes }: NodeCheckInput): Verdict {
  if (node.name === status.leader)
    return {
      level: "OK",
      text: "leader, has no lag",
      perfdata: `lag=0B;${lagWarningBytes};${lagCriticalBytes}`,
    };
  const lag = node.lag_bytes;
  if (lag === null || node.state === "unknown") return { level: "UNKNOWN", text: "lag is not known" };
  const perfdata = `lag=${lag}B;${lagWarningBytes};${lagCriticalBytes}`;
  const level = lag >= lagCriticalBytes ? "CRITICAL" : lag >= lagWarningBytes ? "WARNING" : "OK";
  return { level, text: `lag ${bytesText(lag)}`, perfdata };
}

/** The nodes that should stream from this one: by tag, else every standby without a tag from the leader. */
function expectedDownstream({ status, node }: NodeCheckInput): NodeStatus[] {
  return status.nodes.filter((other) => {
    if (other.name === node.name) return false;
    const wanted = other.tags["replicatefrom"];
    const tagged = status.nodes.some((candidate) => candidate.name === wanted);
    return tagged ? wanted === node.name : node.name === status.leader;
  });
}

function checkDownstream(input: NodeCheckInput): Verdict {
  const expected = expectedDownstream(input);
  const away = expected.filter((other) => other.upstream !== input.node.name || other.state !== "streaming");
  if (away.length === 0)
    return { level: "OK", text: `${countText(expected.length, "standby", "standbys")} attached` };
  return { level: "WARNING", text: `not attached: ${away.map((other) => other.name).join(", ")}` };
}

function checkSlots({ picture }: NodeCheckInput): Verdict {
  if (picture?.sql == null) return unknown();
  const { slots } = picture.sql;
  const lost = slots.filter((slot) => slot.walStatus === "lost");
  if (lost.length > 0)
    return { level: "CRITICAL", text: `WAL lost for ${lost.map((slot) => slot.name).join(", ")}` };
  // A slot that only keeps WAL for a failover is inactive by design and exists on standbys alone.
  const idle = picture.sql.inRecovery ? [] : slots.filter((slot) => slot.physical && !slot.active);
  if (idle.length > 0)
    return { level: "WARNING", text: `inactive: ${idle.map((slot) => slot.name).join(", ")}` };
  return { level: "OK", text: countText(slots.length, "slot") };
}

function checkMissingSlots(input: NodeCheckInput): Verdict {
  const { picture } = input;
  if (picture?.sql == null) return unknown();
  const present = new Set(picture.sql.slots.map((slot) => slot.name));
  const missing = expectedDownstream(input).flatMap((other) => {
    const name = parseNodeName(other.name);
    return name === undefined || present.has(slotNameOf(name)) ? [] : [slotNameOf(name)];
  });
  if (missing.length === 0) return { level: "OK", text: "every standby has its slot" };
  return { level: "CRITICAL", text: `missing: ${missing.join(", ")}` };
}

function checkRestart({ node }: NodeCheckInput): Verdict {
  if (!node.pending_restart) return { level: "OK", text: "no restart is pending" };
  return { level: "WARNING", text: `restart pending for ${node.pending_restart_parameters.join(", ")}` };
}

function unknown(): Verdict {
  return { level: "UNKNOWN", text: "cannot be told without an answer" };
}
