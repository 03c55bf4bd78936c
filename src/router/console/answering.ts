import {
  commandComplete,
  emptyQueryResponse,
  errorResponse,
  noticeResponse,
  readyForQuery,
} from "../../pgwire/encode.ts";
import { transactionState } from "../../pgwire/message-types.ts";
import type { Timers } from "../../system/timers.ts";
import { toFault } from "../../values/fault.ts";
import { columnsMessage, rowMessage, type Formats } from "./answers.ts";
import { readCommand, type ConsoleCommand } from "./command.ts";
import type { Caller } from "./constants.ts";
import { helpText } from "./help.ts";
import { ClientGone, type Outlet } from "./outlet.ts";
import { Refusal } from "./refusal.ts";
import type { OrderResult, RouterControl } from "./source.ts";
import type { Row, Table } from "./table.ts";
import { tableOf, type TableMaker } from "./tables.ts";
import { commandsIn, type Word } from "./words.ts";

/** What the console works with. */
export interface ConsoleTools extends TableMaker {
  readonly control: RouterControl;
  readonly timers: Timers;
  /** A line of the log for each order: who gave it, and what came of it. */
  note(line: string): void;
}

const asText: Formats = [0];

/** A command ready to run, with the table it will answer with; null = it answers without rows. */
export interface Prepared {
  readonly command: ConsoleCommand | null;
  readonly table: Table | null;
}

/** One client's commands, run one after the other. */
export class Answering {
  readonly #tools: ConsoleTools;
  readonly #caller: Caller;
  readonly #outlet: Outlet;
  readonly #gone: AbortSignal;
  #transaction = false;

  constructor(tools: ConsoleTools, caller: Caller, outlet: Outlet, gone: AbortSignal) {
    this.#tools = tools;
    this.#caller = caller;
    this.#outlet = outlet;
    this.#gone = gone;
  }

  /** Whether a BEGIN has been taken: portals live until its end. */
  get inTransaction(): boolean {
    return this.#transaction;
  }

  /** The simple protocol: every command of the text, up to the first that fails. */
  async query(text: string): Promise<void> {
    try {
      const commands = commandsIn(text);
      if (commands.length === 0) await this.#outlet.add(emptyQueryResponse());
      for (const words of commands) {
        const prepared = this.#prepare(words);
        if (prepared.table !== null) await this.#outlet.add(columnsMessage(prepared.table.columns, asText));
        await this.run(prepared, prepared.table?.rows[Symbol.iterator]() ?? null, asText, 0);
      }
    } catch (thrown) {
      await this.refuse(thrown);
    }
    await this.ready();
  }

  /** The one command of a prepared statement. @throws Refusal 42601 for several */
  prepare(text: string): Prepared {
    const [words, ...more] = commandsIn(text);
    if (more.length > 0)
      throw new Refusal("42601", "cannot insert multiple commands into a prepared statement");
    return words === undefined ? { command: null, table: null } : this.#prepare(words);
  }

  #prepare(words: readonly Word[]): Prepared {
    const command = readCommand(words, this.#caller);
    if (command.kind === "constant") return { command, table: command.table };
    if (command.kind === "show" && command.table !== "help")
      return { command, table: tableOf(command.table, this.#tools) };
    return { command, table: null };
  }

  /**
   * Sends the rows and the end of a command. `limit`: how many rows at most, 0 = all. @returns false = rows are left
   */
  async run(
    { command, table }: Prepared,
    rows: Iterator<Row> | null,
    formats: Formats,
    limit: number,
  ): Promise<boolean> {
    if (command === null) {
      await this.#outlet.add(emptyQueryResponse());
      return true;
    }
    if (table !== null && rows !== null) {
      for (let sent = 0; limit === 0 || sent < limit; sent += 1) {
        const next = rows.next();
        if (next.done === true) {
          await this.#end(command.kind === "constant" ? command.tag : "SHOW");
          return true;
        }
        await this.#outlet.add(rowMessage(table.columns, next.value, formats));
      }
      return false;
    }
    await this.#withoutRows(command);
    return true;
  }

  async #withoutRows(command: ConsoleCommand): Promise<void> {
    switch (command.kind) {
      case "nothing":
        this.#transaction = command.transaction ?? this.#transaction;
        return this.#end(command.tag);
      case "order": {
        const result = await this.#carryOut(command);
        if (result.notice !== null) await this.#notice(result.notice);
        return this.#end(result.tag);
      }
      case "show":
      case "constant":
        await this.#notice("Console usage", helpText);
        return this.#end("SHOW");
    }
  }

  async #carryOut({ order }: Extract<ConsoleCommand, { kind: "order" }>): Promise<OrderResult> {
    const { user } = this.#caller;
    const what = Object.values(order).join(" ");
    await this.#outlet.flush();
    try {
      const result = await this.#tools.control.carryOut(order, this.#gone);
      this.#tools.note(`console: ${user}: ${what}: ${result.notice ?? "done"}`);
      return result;
    } catch (thrown) {
      this.#tools.note(`console: ${user}: ${what}: refused: ${toFault(thrown).message}`);
      throw thrown;
    }
  }

  async #notice(message: string, detail?: string): Promise<void> {
    await this.#outlet.add(noticeResponse({ severity: "NOTICE", code: "00000", message, detail }));
  }

  async #end(tag: string): Promise<void> {
    await this.#outlet.add(commandComplete(tag));
  }

  /** Sends the error; what is not a refusal is a fault of the router, told as such. @throws ClientGone */
  async refuse(thrown: unknown): Promise<void> {
    if (thrown instanceof ClientGone) throw thrown;
    const severity = "ERROR";
    if (thrown instanceof Refusal) {
      const { code, message, hint } = thrown;
      await this.#outlet.add(errorResponse({ severity, code, message, hint: hint ?? undefined }));
      return;
    }
    const { message, detail, hint } = toFault(thrown);
    await this.#outlet.add(
      errorResponse({
        severity,
        code: "58000",
        message,
        detail: detail ?? undefined,
        hint: hint ?? undefined,
      }),
    );
  }

  /** ReadyForQuery, and everything goes out. */
  async ready(): Promise<void> {
    await this.#outlet.add(readyForQuery(this.#transaction ? transactionState.open : transactionState.idle));
    await this.#outlet.flush();
  }
}
