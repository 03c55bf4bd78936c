import type { MoveInput } from "../../agent/service.ts";
import { toFault, type Fault, type FaultCode } from "../../values/fault.ts";
import type { ApiContext } from "../context.ts";
import { textReply, type WholeReply } from "../exchange.ts";
import { parseSchedule } from "./schedule.ts";

type Action = "switchover" | "failover";

/** How long a move is waited for; afterwards the answer is that it may still go on. */
const waitMs = 60_000;

/** POST /switchover and /failover: the same answers as Patroni, as soon as they are known. */
export async function moveReply(context: ApiContext, action: Action, body: unknown): Promise<WholeReply> {
  const asked = readMove(body);
  if (asked === null) return textReply(400, "The body must be a JSON object of texts");
  const { leader, candidate } = asked;
  const refusal = refusalOf(context, action, asked);
  if (refusal !== null) return textReply(400, refusal);
  let scheduledAt: string | null = null;
  if (asked.scheduledAt !== null) {
    const schedule = parseSchedule(asked.scheduledAt, action, context.clock.wall());
    if (schedule.kind === "refused") return textReply(schedule.status, schedule.text);
    scheduledAt = schedule.iso;
  }
  // A failover that names the leader it replaces is a switchover: the leader is there to be asked.
  const kind = action === "failover" && leader === null ? "failover" : "switchover";
  const input: MoveInput = { kind, leader, candidate, scheduledAt, acceptLoss: false };
  try {
    const outcome = await context.service.move(input, waitMs);
    if (scheduledAt !== null) return textReply(202, `${capital(action)} scheduled`);
    return doneReply(action, candidate, outcome.leader);
  } catch (thrown) {
    return refusedReply(action, toFault(thrown));
  }
}

interface AskedMove {
  readonly leader: string | null;
  readonly candidate: string | null;
  readonly scheduledAt: string | null;
}

function readMove(body: unknown): AskedMove | null {
  if (typeof body !== "object" || body === null || Array.isArray(body)) return null;
  const fields = body as Readonly<Record<string, unknown>>;
  const values = [fields["leader"], fields["candidate"] ?? fields["member"], fields["scheduled_at"]];
  if (values.some((value) => value != null && typeof value !== "string")) return null;
  const [leader, candidate, scheduledAt] = values.map((value) =>
    typeof value === "string" && value !== "" ? value : null,
  );
  return { leader: leader ?? null, candidate: candidate ?? null, scheduledAt: scheduledAt ?? null };
}

/** What Patroni refuses before it looks at the cluster's members. */
function refusalOf(context: ApiContext, action: Action, asked: AskedMove): string | null {
  const { leader, candidate, scheduledAt } = asked;
  const { paused } = context.service.local();
  if (action === "failover" && candidate === null)
    return "Failover could be performed only to a specific candidate";
  if (action === "switchover" && leader === null)
    return "Switchover could be performed only from a specific leader";
  if (leader !== null && leader === candidate) return `${capital(action)} target and source are the same`;
  if (scheduledAt !== null && action === "failover") return "Failover can't be scheduled";
  if (scheduledAt !== null && paused) return `Can't schedule ${action} in the paused state`;
  if (paused && candidate === null)
    return `${capital(action)} is possible only to a specific candidate in a paused state`;
  return null;
}

function doneReply(action: Action, candidate: string | null, leader: string | null): WholeReply {
  const verb = action === "switchover" ? "switched" : "failed";
  return candidate === null || candidate === leader
    ? textReply(200, `Successfully ${verb} over to "${leader ?? ""}"`)
    : textReply(200, `${capital(verb)} over to "${leader ?? ""}" instead of "${candidate}"`);
}

type Refusal = readonly [status: number, text: (action: Action, fault: Fault) => string];

const noMatch: Refusal = [412, () => "leader name does not match"];
const noSuchCandidate: Refusal = [412, () => "candidate does not exists"];
const notPossible: Refusal = [
  412,
  (action, fault) => `${action} is not possible: no good candidates have been found (${fault.message})`,
];
const busy: Refusal = [503, (action) => `${action} already in progress`];
const notWritten: Refusal = [503, (action) => `failed to write ${action} key into DCS`];

/** Patroni's status and text for what the agent refuses; every other fault is a move that failed. */
const refusals: Partial<Record<FaultCode, Refusal>> = {
  SWITCHOVER_LEADER_MISMATCH: noMatch,
  NO_LEADER: noMatch,
  SWITCHOVER_CANDIDATE_UNKNOWN: noSuchCandidate,
  NODE_UNKNOWN: noSuchCandidate,
  SWITCHOVER_NO_CANDIDATE: [412, (action) => `${action} is not possible: no good candidates have been found`],
  SWITCHOVER_CANDIDATE_EXCLUDED: notPossible,
  SWITCHOVER_CANDIDATE_LAGGING: notPossible,
  SWITCHOVER_CANDIDATE_IS_LEADER: [400, (action) => `${capital(action)} target and source are the same`],
  SWITCHOVER_TIME: [422, (action) => `Cannot schedule ${action} in the past`],
  CLUSTER_PAUSED: [
    400,
    (action) => `${capital(action)} is possible only to a specific candidate in a paused state`,
  ],
  SWITCHOVER_RUNNING: busy,
  OPERATION_RUNNING: busy,
  TIMEOUT: [
    503,
    (action) =>
      `${capital(action)} status unknown after ${waitMs / 1000} seconds; operation may still be in progress`,
  ],
  DCS_UNREACHABLE: notWritten,
  DCS_UNCERTAIN: notWritten,
  DCS_DENIED: notWritten,
  DCS_CONFLICT: notWritten,
};

function refusedReply(action: Action, fault: Fault): WholeReply {
  const [status, text] = refusals[fault.code] ?? [503, () => `${capital(action)} failed (${fault.message})`];
  return textReply(status, text(action, fault));
}

function capital(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}
