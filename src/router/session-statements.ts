import type { StatementFacts } from "../pgwire/statement.ts";

/** What a statement does, as bits. */
export const does = {
  /** It may change what the session keeps. */
  touchSession: 1,
  /** It may make something durable even inside a transaction. */
  commit: 2,
  endTransaction: 4,
  /** It is nothing but BEGIN: what follows is inside a transaction. */
  begin: 8,
  /** What it changes of the session stays when its transaction is rolled back. */
  outlast: 16,
} as const;

/** What a statement counts as that cannot be read. */
export const worst = does.touchSession | does.commit | does.outlast;

/** A statement prepared by the protocol. */
interface Kept {
  /** The whole Parse message; null = too large to keep. */
  readonly message: Buffer | null;
  readonly does: number;
  readonly facts: StatementFacts | null;
}

/** The most bytes of Parse messages that are kept for one session. */
const mostBytes = 1024 * 1024;

/** PostgreSQL cuts names off here. */
const nameLength = 63;

/** The protocol-level prepared statements of one session: what they do, and the Parse messages to make them again. */
export class Statements {
  /** Parse and Close messages whose answers are awaited, in order. */
  readonly #underway: { readonly name: string; readonly kept: Kept | null }[] = [];
  #named: Map<string, Kept> | null = null;
  #bytes = 0;
  /** How many of the named ones, known or underway, do something that must be noticed at each execution. */
  #notable = 0;
  #tooLarge = 0;
  #unnamed: Kept | null = null;

  /** A named Parse was sent. @param message the whole message, copied here; null = it is too large */
  parse(name: string, message: Buffer | null, what: number, facts: StatementFacts | null): void {
    const fits = message !== null && this.#bytes + message.length <= mostBytes;
    const kept = { message: fits ? Buffer.from(message) : null, does: what, facts };
    this.#underway.push({ name: cut(name), kept });
    if (fits) this.#bytes += message.length;
    if (what !== 0) this.#notable += 1;
  }

  close(name: string): void {
    this.#underway.push({ name: cut(name), kept: null });
  }

  parseUnnamed(message: Buffer | null, what: number, facts: StatementFacts | null): void {
    this.#unnamed = {
      message: message !== null && message.length <= mostBytes ? Buffer.from(message) : null,
      does: what,
      facts,
    };
  }

  /** A Query drops it, and so does a Parse that fails. */
  dropUnnamed(): void {
    this.#unnamed = null;
  }

  /** The server has dealt with the oldest Parse or Close underway, or passed it over after an error. */
  settle(answered: boolean): void {
    const oldest = this.#underway.shift();
    if (oldest === undefined) return;
    if (!answered) {
      if (oldest.kept !== null) this.#forget(oldest.kept);
      return;
    }
    if (oldest.kept === null) this.#remove(oldest.name);
    else {
      this.#named ??= new Map();
      this.#remove(oldest.name);
      this.#named.set(oldest.name, oldest.kept);
      if (oldest.kept.message === null) this.#tooLarge += 1;
    }
  }

  /** The server is gone: what was underway is not there. */
  dropUnderway(): void {
    while (this.#underway.length > 0) this.settle(false);
  }

  /** Whether any statement does something that must be noticed when it is executed. */
  get notable(): boolean {
    return this.#notable > 0 || (this.#unnamed !== null && this.#unnamed.does !== 0);
  }

  /** What the statement of a name does, as far as it is known; the empty name = the unnamed one. */
  find(name: string): { readonly does: number; readonly facts: StatementFacts | null } | null {
    if (name === "") return this.#unnamed;
    const wanted = cut(name);
    for (let index = this.#underway.length - 1; index >= 0; index--)
      if (this.#underway[index]?.name === wanted) return this.#underway[index]?.kept ?? null;
    return this.#named?.get(wanted) ?? null;
  }

  /** Leaves those the server has: DEALLOCATE and DISCARD take some away. @returns whether all the server has are known */
  keepOnly(names: ReadonlySet<string>): boolean {
    for (const name of [...(this.#named?.keys() ?? [])]) if (!names.has(name)) this.#remove(name);
    for (const name of names) if (this.#named?.has(name) !== true) return false;
    return true;
  }

  get tooLarge(): boolean {
    return this.#tooLarge > 0 || (this.#unnamed !== null && this.#unnamed.message === null);
  }

  /** The Parse messages that make the named ones again. */
  messages(): Buffer[] {
    return [...(this.#named?.values() ?? [])].flatMap(({ message }) => (message === null ? [] : [message]));
  }

  get unnamedMessage(): Buffer | null {
    return this.#unnamed?.message ?? null;
  }

  #remove(name: string): void {
    const kept = this.#named?.get(name);
    if (kept === undefined) return;
    this.#named?.delete(name);
    if (kept.message === null) this.#tooLarge -= 1;
    this.#forget(kept);
  }

  #forget(kept: Kept): void {
    this.#bytes -= kept.message?.length ?? 0;
    if (kept.does !== 0) this.#notable -= 1;
  }
}

function cut(name: string): string {
  return name.length > nameLength ? name.slice(0, nameLength) : name;
}
