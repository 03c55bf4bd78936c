import { fromClient, transactionState } from "../pgwire/message-types.ts";
import {
  type Farewell,
  owedAnswer,
  readyBytes,
  readyIdle,
  rolledBack,
  transactionEnd,
} from "./session-answers.ts";

/** What is to be done with a message of a client that has no server. */
export interface Dealing {
  /** wait: it needs a server. drop: it is taken away unsent. end: the client says goodbye. */
  readonly deal: "wait" | "drop" | "end";
  /** What the client is told. */
  readonly say: Buffer | null;
}

const wait: Dealing = { deal: "wait", say: null };
const drop: Dealing = { deal: "drop", say: null };
const end: Dealing = { deal: "end", say: null };
const { query, functionCall, sync, terminate, copyData, copyDone, copyFail } = fromClient;

/**
 * How a client stands whose server is gone, until it has another: what it still must be told of its transaction, and the
 * state it believes in. It answers exactly like a server after an error.
 */
export class Loss {
  #owed = false;
  #discard = false;
  /** One of `transactionState`, idle or failed: what the next server's session must be in. */
  status: number = transactionState.idle;

  /** The server is gone. */
  begin(farewell: Farewell): void {
    this.#owed = farewell.owed;
    this.#discard = farewell.discard;
    this.status = farewell.status;
  }

  /** Another error was sent for a message of the extended protocol: what follows is dropped up to the Sync. */
  discardUntilSync(): void {
    this.#discard = true;
  }

  /** The client's messages are dropped up to its next Sync. */
  get discarding(): boolean {
    return this.#discard;
  }

  /** @param sql reads the text of a Query; null = it is not all there */
  message(type: number, sql: () => string | null): Dealing {
    if (type === terminate) return end;
    if (this.#discard) return this.#discarded(type);
    // Of a copy that is over for the server, and soon for the client.
    if (type === copyData || type === copyDone || type === copyFail) return drop;
    const ending =
      type === query && (this.#owed || this.status !== transactionState.idle)
        ? transactionEnd(sql() ?? "")
        : null;
    if (ending === "rollback") {
      this.#owed = false;
      this.status = transactionState.idle;
      return { deal: "drop", say: rolledBack };
    }
    if (!this.#owed) return wait;
    this.#owed = false;
    if (ending === "commit") {
      // As with a commit that fails in PostgreSQL, the transaction is over.
      this.status = transactionState.idle;
      return { deal: "drop", say: owedAnswer(transactionState.idle) };
    }
    this.status = transactionState.failed;
    if (type === query || type === functionCall || type === sync)
      return { deal: "drop", say: owedAnswer(transactionState.failed) };
    this.#discard = true;
    return { deal: "drop", say: owedAnswer(null) };
  }

  #discarded(type: number): Dealing {
    if (type !== sync) return drop;
    this.#discard = false;
    return { deal: "drop", say: this.status === transactionState.idle ? readyIdle : readyBytes(this.status) };
  }
}
