import type { CarriedState } from "./carry.ts";
import type { Books } from "./session-books.ts";
import type { PinReason } from "./sessions.ts";
import { preparedBody } from "./prepare-text.ts";
import { pinsOf, type Snapshot } from "./snapshot.ts";

/** What is known of a session's own state, and whether that is enough to set it up on another server. */
export class SessionState {
  readonly #books: Books;
  readonly #replication: boolean;
  #snapshot: Snapshot | null = null;
  /** The server has statements of the protocol that are not known here. */
  #strangeStatements = false;
  /** Something went wrong with it on another server. */
  #unfit = false;

  constructor(books: Books, replication: boolean) {
    this.#books = books;
    this.#replication = replication;
  }

  /** Takes what the catalogs say; null = PostgreSQL would not tell: the state stays unknown. */
  learn(snapshot: Snapshot | null): void {
    if (snapshot === null) {
      this.#books.dirty = true;
      return;
    }
    this.#snapshot = snapshot;
    this.#strangeStatements = !this.#books.statements.keepOnly(snapshot.protocolPrepared);
    this.#books.sqlPrepared = bodiesOf(snapshot.prepared);
    this.#books.dirty = false;
    this.#books.touched = false;
  }

  /** The replay failed: it would fail again. */
  markUnfit(): void {
    this.#unfit = true;
  }

  get listens(): boolean {
    return (this.#snapshot?.channels.length ?? 0) > 0;
  }

  get carried(): CarriedState {
    const { statements } = this.#books;
    return {
      snapshot: this.#snapshot,
      statements: statements.messages(),
      unnamed: statements.unnamedMessage,
    };
  }

  /** What would keep a planned move from carrying it; a state that can still be looked at is no reason. */
  knownPins(): PinReason[] {
    const pins = this.pins(true);
    return this.#books.settingUnknown || this.#unfit ? pins : pins.filter((pin) => pin !== "state unknown");
  }

  /** What binds the session to its server. @param planned it moves together with all others, behind a gate */
  pins(planned: boolean): PinReason[] {
    if (this.#replication) return ["replication"];
    const books = this.#books;
    const pins = this.#snapshot === null ? [] : pinsOf(this.#snapshot, planned);
    if (books.copy !== "none") pins.push("open COPY");
    if (books.statements.tooLarge || this.#strangeStatements) pins.push("prepared statement too large");
    if (books.dirty || books.settingUnknown || this.#unfit) pins.push("state unknown");
    return pins;
  }
}

const none: ReadonlyMap<string, string> = new Map();

function bodiesOf(prepared: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
  if (prepared.size === 0) return none;
  return new Map([...prepared].map(([name, text]) => [name, preparedBody(text, name)]));
}
