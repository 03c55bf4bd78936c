import { commandComplete, readyForQuery } from "../pgwire/encode.ts";
import { transactionState } from "../pgwire/message-types.ts";

/** How far a batch that may be one BEGIN alone has come. */
const stage = { other: 0, parsed: 1, bound: 2, executed: 3, complete: 4 } as const;
type Stage = (typeof stage)[keyof typeof stage];

const empty = (type: string): Buffer => Buffer.from([type.charCodeAt(0), 0, 0, 0, 4]);
const parseComplete = empty("1");
const bindComplete = empty("2");
const noData = empty("n");

/**
 * Notices when all that is in flight is one BEGIN, as a Query or as a batch of its own, and nothing of the answer has come.
 * A BEGIN that fails on a connection that lives is something drivers do not reckon with (psycopg's transaction() is of no
 * more use afterwards), and nothing is lost with it: its transaction can begin all the same, and be gone a moment later.
 */
export class BeginAlone {
  #stage: Stage = stage.other;
  #extended = false;
  #described = false;
  #tag = "";

  /** A Query, or the Parse of an unnamed statement, that only begins a transaction, while nothing else was in flight. */
  begins(sql: string, extended: boolean): void {
    this.#stage = extended ? stage.parsed : stage.complete;
    this.#extended = extended;
    this.#described = false;
    this.#tag = /\bstart\b/i.test(sql) ? "START TRANSACTION" : "BEGIN";
  }

  bind(): void {
    this.#stage = this.#stage === stage.parsed ? stage.bound : stage.other;
  }

  /** @param portal it asks for the portal, not for the statement */
  describe(portal: boolean): void {
    if (this.#stage !== stage.bound || this.#described || !portal) this.#stage = stage.other;
    else this.#described = true;
  }

  execute(): void {
    this.#stage = this.#stage === stage.bound ? stage.executed : stage.other;
  }

  sync(): void {
    this.#stage = this.#stage === stage.executed ? stage.complete : stage.other;
  }

  /** Anything else was sent, or something of the answer has come. */
  other(): void {
    this.#stage = stage.other;
  }

  /** What a server answers it with; null = that is not all there is in flight. */
  get answer(): Buffer | null {
    if (this.#stage !== stage.complete) return null;
    const done = [commandComplete(this.#tag), readyForQuery(transactionState.open)];
    if (!this.#extended) return Buffer.concat(done);
    const described = this.#described ? [noData] : [];
    return Buffer.concat([parseComplete, bindComplete, ...described, ...done]);
  }
}
