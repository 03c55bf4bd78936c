import { faultCatalogue, toFault, type Fault, type FaultCode } from "../values/fault.ts";
import { exitCodes } from "./exit-code.ts";

/**
 * What a failed command left behind. none: it was not meant to change anything. nothing: it was, and did not.
 * partly: some of it is done, or nobody knows; `state` says what is known.
 */
export type Left =
  | { readonly kind: "none" }
  | { readonly kind: "nothing" }
  | { readonly kind: "partly"; readonly state: string };

/** A fault together with what the command left behind: decides the last line and the exit code. */
export class CommandFailure extends Error {
  readonly fault: Fault;
  readonly left: Left;

  constructor(thrown: unknown, left: Left) {
    const fault = toFault(thrown);
    super(fault.message, { cause: thrown });
    this.name = "CommandFailure";
    this.fault = fault;
    this.left = left;
  }
}

/** Codes after which a change that was asked for may have taken effect. */
const uncertain: ReadonlySet<FaultCode> = new Set<FaultCode>([
  "DCS_UNCERTAIN",
  "TIMEOUT",
  "PROMOTION_FAILED",
  "POSTGRES_START_FAILED",
  "POSTGRES_STOP_FAILED",
  "LOST_LEADERSHIP",
]);

/**
 * What a change that ended with this fault left behind. `delivered`: the request may have reached an agent before the
 * fault, so that silence afterwards says nothing.
 */
export function leftByChange(fault: Fault, look: string): Left {
  return uncertain.has(fault.code)
    ? { kind: "partly", state: `It may have taken effect: ${look}` }
    : { kind: "nothing" };
}

/** The exit code of a failure. */
export function exitCodeOf(fault: Fault, left: Left): number {
  if (left.kind === "partly") return exitCodes.partly;
  return fault.code === "USAGE" ? exitCodes.usage : exitCodes.failed;
}

const refusals: ReadonlySet<FaultCode> = new Set<FaultCode>([
  "BACKUP_JOB_RUNNING",
  "BACKUP_NEEDED",
  "CONFIG_INVALID",
  "UNAUTHORIZED",
  "DCS_DENIED",
  "NODE_UNKNOWN",
  "NODE_NAME_IN_USE",
  "NO_LEADER",
  "NOT_LEADER",
  "CLUSTER_PAUSED",
  "OPERATION_RUNNING",
  "SWITCHOVER_RUNNING",
  "SWITCHOVER_CANDIDATE_UNKNOWN",
  "SWITCHOVER_CANDIDATE_EXCLUDED",
  "SWITCHOVER_CANDIDATE_LAGGING",
  "SWITCHOVER_CANDIDATE_IS_LEADER",
  "SWITCHOVER_LEADER_MISMATCH",
  "SWITCHOVER_NO_CANDIDATE",
  "SWITCHOVER_TIME",
  "SWITCHOVER_SESSIONS_BUSY",
  "REINIT_OF_LEADER",
  "REMOVE_RUNNING_NODE",
]);

/** The first word of an error: a refusal was decided, a failure happened, a usage error was not understood. */
export function errorWord(code: FaultCode): "Refused" | "Failed" | "Not understood" {
  if (code === "USAGE") return "Not understood";
  return refusals.has(code) ? "Refused" : "Failed";
}

/** Whether the text is a code of the catalogue. */
export function isFaultCode(text: string): text is FaultCode {
  return Object.hasOwn(faultCatalogue, text);
}

/** Runs a change; a fault of it is judged: may it have taken effect? @throws CommandFailure */
export async function change<T>(run: () => Promise<T>, look: string): Promise<T> {
  try {
    return await run();
  } catch (thrown) {
    if (thrown instanceof CommandFailure) throw thrown;
    throw new CommandFailure(thrown, leftByChange(toFault(thrown), look));
  }
}
