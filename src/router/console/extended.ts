import { BodyReader } from "../../pgwire/body-reader.ts";
import { decodeClose, decodeDescribe } from "../../pgwire/decode.ts";
import { fromClient, fromServer } from "../../pgwire/message-types.ts";
import type { WireMessage } from "../../pgwire/message-reader.ts";
import { bare, columnsMessage, noParameters, readBindTail, type Formats } from "./answers.ts";
import type { Answering, Prepared } from "./answering.ts";
import type { Outlet } from "./outlet.ts";
import { Refusal } from "./refusal.ts";
import type { Row } from "./table.ts";

/** Nobody needs more here; a client that leaks them is told so. */
const mostNames = 100;

interface Portal {
  readonly prepared: Prepared;
  readonly rows: Iterator<Row> | null;
  readonly formats: Formats;
}

/** The extended protocol, as far as drivers need it for commands without parameters. */
export class Extended {
  readonly #answering: Answering;
  readonly #outlet: Outlet;
  readonly #statements = new Map<string, string>();
  readonly #portals = new Map<string, Portal>();
  /** An error was sent: everything up to the next Sync is passed over. */
  #failed = false;

  constructor(answering: Answering, outlet: Outlet) {
    this.#answering = answering;
    this.#outlet = outlet;
  }

  /** Answers one message of it. @returns false = it is none of the extended protocol */
  async take(message: WireMessage): Promise<boolean> {
    if (message.type === fromClient.sync) {
      this.#failed = false;
      if (!this.#answering.inTransaction) this.#portals.clear();
      await this.#answering.ready();
      return true;
    }
    const answer = this.#answers[message.type];
    if (answer === undefined) return false;
    if (this.#failed) return true;
    try {
      await answer(message.body);
    } catch (thrown) {
      this.#failed = true;
      await this.#answering.refuse(thrown);
    }
    return true;
  }

  readonly #answers: Readonly<Record<number, (body: Buffer) => Promise<void>>> = {
    [fromClient.parse]: (body) => this.#parse(body),
    [fromClient.bind]: (body) => this.#bind(body),
    [fromClient.describe]: (body) => this.#describe(body),
    [fromClient.execute]: (body) => this.#execute(body),
    [fromClient.close]: (body) => this.#close(body),
    [fromClient.flush]: () => this.#outlet.flush(),
  };

  async #parse(body: Buffer): Promise<void> {
    const reader = new BodyReader("Parse", body, 0, body.length);
    const name = reader.latin1();
    const text = reader.text();
    reader.bytes(4 * reader.count());
    reader.finish();
    if (!this.#statements.has(name)) refuseMore("prepared statements", this.#statements.size);
    this.#answering.prepare(text); // refused here, as a server does
    this.#statements.set(name, text);
    await this.#outlet.add(bare(fromServer.parseComplete));
  }

  async #bind(body: Buffer): Promise<void> {
    const reader = new BodyReader("Bind", body, 0, body.length);
    const portal = reader.latin1();
    const statement = reader.latin1();
    const { parameters, formats } = readBindTail(reader);
    if (parameters > 0) throw new Refusal("08P01", "the commands of this console take no parameters");
    if (!this.#portals.has(portal)) refuseMore("portals", this.#portals.size);
    const prepared = this.#answering.prepare(this.#text(statement));
    const rows = prepared.table?.rows[Symbol.iterator]() ?? null;
    this.#portals.set(portal, { prepared, rows, formats: formats.length === 0 ? [0] : formats });
    await this.#outlet.add(bare(fromServer.bindComplete));
  }

  async #describe(body: Buffer): Promise<void> {
    const { kind, name } = decodeDescribe(body);
    if (kind === "statement") {
      const { table } = this.#answering.prepare(this.#text(name));
      await this.#outlet.add(noParameters());
      await this.#outlet.add(table === null ? bare(fromServer.noData) : columnsMessage(table.columns, [0]));
      return;
    }
    const { prepared, formats } = this.#portal(name);
    const { table } = prepared;
    await this.#outlet.add(table === null ? bare(fromServer.noData) : columnsMessage(table.columns, formats));
  }

  async #execute(body: Buffer): Promise<void> {
    const reader = new BodyReader("Execute", body, 0, body.length);
    const portal = this.#portal(reader.latin1());
    const limit = Math.max(0, reader.int32());
    reader.finish();
    const done = await this.#answering.run(portal.prepared, portal.rows, portal.formats, limit);
    if (!done) await this.#outlet.add(bare(fromServer.portalSuspended));
  }

  async #close(body: Buffer): Promise<void> {
    const { kind, name } = decodeClose(body);
    (kind === "statement" ? this.#statements : this.#portals).delete(name);
    await this.#outlet.add(bare(fromServer.closeComplete));
  }

  #text(name: string): string {
    const text = this.#statements.get(name);
    if (text === undefined) throw new Refusal("26000", `prepared statement "${name}" does not exist`);
    return text;
  }

  #portal(name: string): Portal {
    const portal = this.#portals.get(name);
    if (portal === undefined) throw new Refusal("34000", `portal "${name}" does not exist`);
    return portal;
  }
}

function refuseMore(what: string, count: number): void {
  if (count >= mostNames) throw new Refusal("53400", `this console keeps at most ${mostNames} ${what}`);
}
