import { commandComplete, errorResponse, readyForQuery, type ServerMessage } from "../pgwire/encode.ts";
import { transactionState } from "../pgwire/message-types.ts";
import type { Books, Outcome } from "./session-books.ts";
import type { PinReason } from "./sessions.ts";

// What a client is told when its server is gone: codes that drivers know what to do with, and nothing that could be taken for
// success.

/** Retryable: the transaction was rolled back as a whole, and may simply be run again. */
const lostTransaction: ServerMessage = {
  severity: "ERROR",
  code: "40001",
  message: "the transaction was rolled back because the primary changed",
  detail: "Nothing of it was committed. The connection has been kept.",
  hint: "Run the transaction again.",
};

/** The outcome is not known: only the application can find out. */
const unknownOutcome: ServerMessage = {
  severity: "ERROR",
  code: "08007",
  message: "the primary changed while this was being committed: whether it took effect is not known",
  detail: "The server was lost before it answered. The connection has been kept.",
  hint: "Look whether the change is there before running it again.",
};

/** PostgreSQL's wait for a standby was cancelled, and it went on to say success (F10). */
const notReplicated: ServerMessage = {
  severity: "ERROR",
  code: "08007",
  message:
    "the wait for synchronous replication was cancelled: whether this commit survives a failover is not known",
  detail: "It is committed on the primary, but no standby has confirmed it.",
  hint: "Look whether the change is there before running it again.",
};

export const notReplicatedError = errorResponse(notReplicated);

const cancelled: ServerMessage = {
  severity: "ERROR",
  code: "57014",
  message: "canceling statement due to user request",
};
export const cancelledError = errorResponse(cancelled);

export const readyIdle = readyForQuery(transactionState.idle);
const readyFailed = readyForQuery(transactionState.failed);
export const lostTransactionError = errorResponse(lostTransaction);
const unknownOutcomeError = errorResponse(unknownOutcome);

/** What is sent at once when the server is gone, and how the client stands afterwards. */
export interface Farewell {
  readonly bytes: Buffer;
  /** The client's next message gets the error of a lost transaction. */
  readonly owed: boolean;
  /** The client's messages are dropped up to its next Sync, as a server does after an error. */
  readonly discard: boolean;
  /** The transaction state the client believes in, once it has read all. */
  readonly status: number;
}

/** Works out what a client is told whose server is gone, from the books as they stand. */
export function farewell(books: Books, outcome: Outcome): Farewell {
  const { idle, failed } = transactionState;
  if (outcome === "nothing")
    return {
      bytes: Buffer.alloc(0),
      owed: books.status === transactionState.open,
      discard: false,
      status: books.status === idle ? idle : failed,
    };
  const { begun } = books;
  if (begun !== null) return { bytes: begun, owed: true, discard: false, status: failed };
  const status = outcome === "unknown" || books.status === idle ? idle : failed;
  const error = outcome === "unknown" ? unknownOutcomeError : lostTransactionError;
  const { replies } = books.awaited;
  const parts: Buffer[] = [];
  for (let index = 0; index < replies; index++) parts.push(error, status === idle ? readyIdle : readyFailed);
  // Without a Sync the server's error would be all there is until one comes; so too in a copy whose Sync was passed over.
  const discard = books.extended || (replies === 0 && books.copy !== "none");
  if (discard) parts.push(error);
  return { bytes: Buffer.concat(parts), owed: false, discard, status };
}

export function readyBytes(status: number): Buffer {
  return status === transactionState.idle ? readyIdle : readyFailed;
}

/** The error owed to a client whose transaction is gone. @param state what it believes in afterwards */
export function owedAnswer(state: number | null): Buffer {
  return state === null ? lostTransactionError : Buffer.concat([lostTransactionError, readyBytes(state)]);
}

/** What ROLLBACK is answered with in a transaction whose server is gone. */
export const rolledBack = Buffer.concat([commandComplete("ROLLBACK"), readyIdle]);

/** The last message to a session that cannot be carried. @param why in place of reasons, as a sentence */
export function cut(reasons: readonly PinReason[], why = "It has no server any more."): Buffer {
  return errorResponse({
    severity: "FATAL",
    code: "57P01",
    message: "terminating connection because the primary changed and this session cannot be carried",
    detail: reasons.length > 0 ? `What is lost with its server: ${reasons.join(", ")}.` : why,
    hint: "Connect again.",
  });
}

/** The last message to a session that waited in vain. */
export function nobodyServes(waitedMs: number): Buffer {
  return errorResponse({
    severity: "FATAL",
    code: "57P03",
    message: "no server is ready for this connection",
    detail: `The router waited for ${(waitedMs / 1000).toFixed(1)} s.`,
    hint: "`pgherd status` shows the cluster.",
  });
}

/** The last message of a router that ends, or to a session an operator ends. */
export function ended(message: string): Buffer {
  return errorResponse({ severity: "FATAL", code: "57P01", message });
}

/** How a text ends the transaction it runs in; null = it does not, or more than that. */
export function transactionEnd(sql: string): "commit" | "rollback" | null {
  // Trimmed first: two runs of blanks in a row at the end of the pattern would take quadratic time on a text full of them.
  const form = /^(?:(commit|end)|(rollback|abort))(?:\s+(?:work|transaction))?\s*;?$/i.exec(sql.trim());
  if (form === null) return null;
  return form[1] === undefined ? "rollback" : "commit";
}
