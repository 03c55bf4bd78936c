import type { ServerMessage } from "../../pgwire/encode.ts";
import { Fault } from "../../values/fault.ts";
import { describeTarget, type ReplicationTarget } from "./target.ts";

/** What a server said when it refused something; the cause of the faults of this folder. */
class ServerRefusal extends Error {
  override readonly name = "ServerRefusal";
  /** SQLSTATE. */
  readonly code: string;
  readonly said: ServerMessage;

  constructor(said: ServerMessage) {
    super(said.message);
    this.code = said.code;
    this.said = said;
  }
}

/** The SQLSTATE a fault of this folder comes from; null = it came from no server. */
export function refusalCode(thrown: unknown): string | null {
  if (thrown instanceof ServerRefusal) return thrown.code;
  return thrown instanceof Fault && thrown.cause instanceof ServerRefusal ? thrown.cause.code : null;
}

/** A refused command as a fault with the server's own words. */
export function commandFault(said: ServerMessage, command: string): Fault {
  return new Fault(
    "POSTGRES_QUERY_FAILED",
    `PostgreSQL refused ${command.split(" ")[0] ?? command}: ${said.message}`,
    {
      ...(said.detail === undefined ? {} : { detail: said.detail }),
      ...(said.hint === undefined ? {} : { hint: said.hint }),
      cause: new ServerRefusal(said),
    },
  );
}

/** Codes that say who we are is the trouble: password, pg_hba.conf, role. */
const notYou = new Set(["28P01", "28000", "42501"]);
const tooManyConnections = "53300";

/** A refused login as a fault. */
export function loginFault(said: ServerMessage, target: ReplicationTarget): Fault {
  const parts = { detail: `${describeTarget(target)}: ${said.message}`, cause: new ServerRefusal(said) };
  if (notYou.has(said.code))
    return new Fault("POSTGRES_AUTHENTICATION", `PostgreSQL refused the role "${target.user}"`, {
      ...parts,
      hint: "Check the role's password, that it has REPLICATION, and that pg_hba.conf lets it in from this host for replication.",
    });
  if (said.code === tooManyConnections)
    return new Fault("TOO_FEW_WALSENDERS", "The source has no free WAL sender", {
      ...parts,
      hint: "Raise max_wal_senders on the source, or end a replication connection.",
    });
  return new Fault("POSTGRES_UNREACHABLE", "PostgreSQL does not let replication connections in now", parts);
}

/** A connection that was not made, or ended, as a fault. */
export function lostFault(target: ReplicationTarget, why: string, cause?: unknown): Fault {
  return new Fault("POSTGRES_UNREACHABLE", "The replication connection to PostgreSQL is not there", {
    detail: `${describeTarget(target)}: ${why}`,
    ...(cause === undefined ? {} : { cause }),
  });
}
