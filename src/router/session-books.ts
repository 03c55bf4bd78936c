import { decodeBind, decodeClose } from "../pgwire/decode.ts";
import { fromClient, fromServer, transactionState } from "../pgwire/message-types.ts";
import { scanStatement, type StatementFacts } from "../pgwire/statement.ts";
import { Awaited, awaited, type Passing } from "./session-awaited.ts";
import type { Hidden } from "./session-hidden.ts";
import { BeginAlone } from "./session-begin.ts";
import { does, Statements, worst } from "./session-statements.ts";

/** Where a COPY stands, seen from the session. */
type Copy = "none" | "in" | "out" | "both";

/** What can be said of work that was sent to a server that is gone. */
export type Outcome =
  /** Nothing was under way. */
  | "nothing"
  /** Nothing of it can have become durable. */
  | "aborted"
  /** It may have been committed. */
  | "unknown";

/** More names than this, and the state of the session counts as not known. */
const mostCustomNames = 256;
/** Statements that change what functions, triggers or policies do. */
const changesCode =
  /^\s*(?:create|alter|drop)\s+(?:or\s+replace\s+)?(?:constraint\s+)?(?:function|procedure|routine|policy|trigger)\b/i;
const customName = /^[a-z_][\w$]*(?:\.[a-z_][\w$]*)+$/i;

const nothingPrepared: ReadonlyMap<string, string> = new Map();

/**
 * Follows the conversation of one client with its server, message by message, and knows at each point whether the session
 * could go on elsewhere, and what is in flight. It holds no sockets and forwards nothing.
 */
export class Books implements Passing {
  /** Of the last ReadyForQuery, one of `transactionState`. */
  status: number = transactionState.idle;
  /** Messages of the extended protocol were sent, and no Sync after them. */
  extended = false;
  copy: Copy = "none";
  /** The client has sent anything since then. */
  touched = false;
  /** A setting was named by an expression: no look at the catalog can find it. */
  settingUnknown = false;
  /** standard_conforming_strings. */
  plainStrings = true;
  /** What has ended since somebody last took these away. */
  transactions = 0;
  queries = 0;
  selects = 0;
  /** What the code of the database may do to the session unseen. */
  hidden: Hidden = { names: new Set(), words: null, stale: false };
  readonly statements = new Statements();
  readonly awaited = new Awaited(this);
  /** Statements prepared by SQL, by name: what they run; empty = the text could not be told apart. */
  sqlPrepared: ReadonlyMap<string, string> = nothingPrepared;
  #dirty = false;
  /** Not all of what made it dirty is undone when the transaction is lost that is open now. */
  #dirtyKept = false;
  #customNames: Set<string> | null = null;
  /** What was sent will run inside a transaction. */
  #inside = false;
  /** Something was sent that commits by itself, outside a transaction. */
  #autocommit = false;
  /** Something was sent that commits wherever it runs. */
  #commit = false;
  /** The end of the running copy was sent. */
  #copyEnded = false;
  /** What the unnamed portal's statement does. */
  #portal = 0;
  readonly #begin = new BeginAlone();

  passed(code: number, answered: boolean): void {
    this.#begin.other();
    if (code === awaited.namedParse || code === awaited.statementClose) this.statements.settle(answered);
    else if (code === awaited.unnamedParse && !answered) this.statements.dropUnnamed();
  }

  /** The session's own state may have changed since it was last looked at. */
  get dirty(): boolean {
    return this.#dirty;
  }

  set dirty(dirty: boolean) {
    this.#dirty = dirty;
    this.#dirtyKept = dirty;
  }

  /**
   * The server is gone: what a transaction had changed in the session that was lost with it was undone, and the session is again
   * what it was when it was last looked at.
   */
  lost(outcome: Outcome): void {
    if (outcome !== "unknown" && !this.#dirtyKept) this.dirty = false;
  }

  /** Nothing is in flight and no transaction is open. */
  get atRest(): boolean {
    return (
      this.awaited.replies === 0 &&
      this.status === transactionState.idle &&
      !this.extended &&
      this.copy === "none"
    );
  }

  /** Nothing is in flight, whatever the transaction. */
  get quiet(): boolean {
    return this.awaited.replies === 0 && !this.extended && this.copy === "none";
  }

  /** What a server would answer to all that is in flight, if that is one BEGIN; else null. */
  get begun(): Buffer | null {
    return this.#begin.answer;
  }

  /** Settings with a dot that may have been set, by the client or by the code it calls. */
  settingNames(): ReadonlySet<string> {
    return new Set([...(this.#customNames ?? []), ...this.hidden.names]);
  }

  /** What became of the work in flight if the server is gone now. @param readOnly it was a standby */
  outcome(readOnly: boolean): Outcome {
    if (this.quiet) return "nothing";
    if (readOnly) return "aborted";
    if (this.#commit) return "unknown";
    if (this.copy === "in" && !this.#copyEnded) return "aborted";
    return this.#autocommit ? "unknown" : "aborted";
  }

  /**
   * A message of the client that goes to the server.
   * @param start, end its body; @param complete whether all of it is there
   */
  fromClient(type: number, buffer: Buffer, start: number, end: number, complete: boolean): void {
    this.touched = true;
    switch (type) {
      case fromClient.query:
        this.#query(complete ? buffer.toString("latin1", start, end - 1) : null);
        return;
      case fromClient.sync:
        this.#begin.sync();
        this.extended = false;
        this.awaited.push(awaited.sync);
        return;
      case fromClient.execute:
        this.#begin.execute();
        this.extended = true;
        this.#execute(buffer, start);
        return;
      case fromClient.bind:
        this.#begin.bind();
        this.extended = true;
        if (this.statements.notable) this.#bind(buffer, start, end, complete);
        else this.#portal = 0;
        return;
      case fromClient.parse: {
        const alone = this.atRest;
        this.extended = true;
        this.#parse(buffer, start, end, complete, alone);
        return;
      }
      case fromClient.describe:
        this.#begin.describe(buffer[start] === 0x50);
        this.extended = true;
        return;
      case fromClient.flush:
        this.#begin.other();
        this.extended = true;
        return;
      case fromClient.close:
        this.#begin.other();
        this.extended = true;
        this.#close(buffer, start, end, complete);
        return;
      case fromClient.functionCall:
        this.#begin.other();
        this.awaited.push(awaited.query);
        this.dirty = true;
        if (!this.#inside) this.#autocommit = true;
        return;
      case fromClient.copyDone:
      case fromClient.copyFail:
        this.#copyEnded = true;
        this.awaited.push(awaited.copyEnd);
        return;
      default:
        return;
    }
  }

  /** A ReadyForQuery of the server. */
  ready(state: number): void {
    this.#begin.other();
    this.awaited.ready();
    this.status = state;
    this.copy = "none";
    if (state === transactionState.idle) {
      this.transactions += 1;
      this.#dirtyKept = this.#dirty;
    }
    if (this.awaited.replies > 0) return;
    this.#autocommit = false;
    this.#commit = false;
    this.#inside = state !== transactionState.idle;
    this.#copyEnded = false;
  }

  /** CopyInResponse, CopyOutResponse or CopyBothResponse. */
  copyBegins(type: number): void {
    if (type === fromServer.copyIn) {
      this.copy = "in";
      this.awaited.copyIn();
      this.#copyEnded = this.awaited.copyEndSeen;
    } else this.copy = type === fromServer.copyOut ? "out" : "both";
  }

  /** CommandComplete. @param tag where its tag begins */
  completed(buffer: Buffer, tag: number): void {
    this.queries += 1;
    // Only one other tag begins with the same letter as often, SET: the third tells them apart.
    if (buffer[tag] === 0x53 && buffer[tag + 2] === 0x4c) this.selects += 1;
    this.statementOver();
  }

  /** CommandComplete, or an error that does not end the session: a copy is over, a BEGIN has its answer. */
  statementOver(): void {
    this.copy = "none";
    this.#begin.other();
  }

  /** A session on a new server begins: nothing is in flight. @param status what the new server's transaction is */
  restart(status: number): void {
    this.awaited.clear();
    this.#begin.other();
    this.statements.dropUnderway();
    this.status = status;
    this.extended = false;
    this.copy = "none";
    this.#autocommit = false;
    this.#commit = false;
    this.#copyEnded = false;
    this.#portal = 0;
    this.#inside = status !== transactionState.idle;
  }

  #query(sql: string | null): void {
    const alone = this.atRest;
    this.#begin.other();
    this.awaited.push(awaited.query);
    this.statements.dropUnnamed();
    if (sql === null) this.#runs(worst, null);
    else {
      const facts = scanStatement(sql, this.plainStrings);
      if (facts.onlyBegins && alone) this.#begin.begins(sql, false);
      this.#runs(this.#executing(facts) ?? this.#doing(sql, facts), facts);
    }
  }

  /** What an EXECUTE does by what it executes; null = it is none, or that is not known. */
  #executing({ executes }: StatementFacts): number | null {
    const body = executes === null ? undefined : this.sqlPrepared.get(executes);
    if (body === undefined || body === "") return null;
    const facts = scanStatement(body, this.plainStrings);
    return facts.settingParameters.length > 0 ? null : this.#doing(body, facts);
  }

  /** @param alone nothing was in flight before it */
  #parse(buffer: Buffer, start: number, end: number, complete: boolean, alone: boolean): void {
    this.#begin.other();
    const named = buffer[start] !== 0;
    this.awaited.push(named ? awaited.namedParse : awaited.unnamedParse);
    const nameEnd = named ? buffer.indexOf(0, start) : start;
    const name = nameEnd === -1 ? "" : buffer.toString("latin1", start, nameEnd);
    const sqlEnd = complete ? buffer.indexOf(0, nameEnd + 1) : -1;
    let what = worst;
    let facts: StatementFacts | null = null;
    if (nameEnd !== -1 && sqlEnd !== -1 && sqlEnd < end) {
      const sql = buffer.toString("latin1", nameEnd + 1, sqlEnd);
      facts = scanStatement(sql, this.plainStrings);
      what = this.#doing(sql, facts);
      if (facts.onlyBegins && alone && !named) this.#begin.begins(sql, true);
    }
    const message = complete ? buffer.subarray(start - 5, end) : null;
    if (named) this.statements.parse(name, message, what, facts);
    else this.statements.parseUnnamed(message, what, facts);
  }

  #bind(buffer: Buffer, start: number, end: number, complete: boolean): void {
    const portalEnd = buffer.indexOf(0, start);
    const nameEnd = portalEnd === -1 ? -1 : buffer.indexOf(0, portalEnd + 1);
    if (portalEnd === -1 || nameEnd === -1 || nameEnd >= end) {
      // Of a long message only the beginning is seen, which may end before the names do: it counts as the worst there is.
      this.#portal = worst;
      this.settingUnknown = true;
      return;
    }
    const found = this.statements.find(buffer.toString("latin1", portalEnd + 1, nameEnd));
    // Of a portal with a name the statement is not kept: at its execution it counts as doing what any here does.
    if (portalEnd === start) this.#portal = found?.does ?? 0;
    const numbers = found?.facts?.settingParameters ?? [];
    if (numbers.length === 0) return;
    if (!complete) this.settingUnknown = true;
    else {
      const { parameters } = decodeBind(buffer, start, end);
      for (const number of numbers) this.#custom(parameters[number - 1]?.toString("latin1") ?? "");
    }
  }

  #execute(buffer: Buffer, start: number): void {
    const unnamed = buffer[start] === 0;
    this.#runs(unnamed ? this.#portal : this.statements.notable ? worst : 0, null);
  }

  #close(buffer: Buffer, start: number, end: number, complete: boolean): void {
    const statement = complete && buffer[start] === 0x53;
    const name = statement ? decodeClose(buffer, start, end).name : "";
    if (statement && name !== "") {
      this.awaited.push(awaited.statementClose);
      this.statements.close(name);
    } else {
      this.awaited.push(awaited.portalClose);
      if (statement) this.statements.dropUnnamed();
    }
  }

  #doing(sql: string, facts: StatementFacts): number {
    for (const name of facts.settings) this.#custom(name);
    if (facts.settingUnknown) this.settingUnknown = true;
    const { hidden } = this;
    const unseen = hidden.words?.test(sql) === true;
    if (changesCode.test(sql)) hidden.stale = true;
    return (
      (facts.touchesSession || unseen ? does.touchSession : 0) |
      (facts.outlastsRollback || unseen ? does.outlast : 0) |
      (facts.mayCommit ? does.commit : 0) |
      (facts.endsTransaction ? does.endTransaction : 0) |
      (facts.onlyBegins ? does.begin : 0)
    );
  }

  #runs(what: number, facts: StatementFacts | null): void {
    if (what === 0) {
      if (!this.#inside) this.#autocommit = true;
      return;
    }
    if ((facts?.settingParameters.length ?? 0) > 0) this.settingUnknown = true;
    if ((what & does.touchSession) !== 0) {
      this.#dirty = true;
      // That a transaction is open the server has said: a BEGIN on its way may fail.
      const undone = this.#inside && this.status !== transactionState.idle;
      if (!undone || (what & does.outlast) !== 0) this.#dirtyKept = true;
    }
    if ((what & does.begin) !== 0) {
      this.#inside = true;
      return;
    }
    if ((what & does.commit) !== 0) this.#commit = true;
    else if (!this.#inside) this.#autocommit = true;
    if ((what & does.endTransaction) !== 0) this.#inside = false;
  }

  #custom(name: string): void {
    if (!customName.test(name)) {
      // An ordinary parameter stands in the catalog; anything else PostgreSQL refuses.
      return;
    }
    this.#customNames ??= new Set();
    if (this.#customNames.size >= mostCustomNames) this.settingUnknown = true;
    else this.#customNames.add(name);
  }
}
