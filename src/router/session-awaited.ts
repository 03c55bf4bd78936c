/** What a client has sent and the server will answer, as far as it must be told apart. */
export const awaited = {
  /** Query or FunctionCall: ends in ReadyForQuery. */
  query: 1,
  /** Sync: ends in ReadyForQuery. */
  sync: 2,
  namedParse: 3,
  unnamedParse: 4,
  statementClose: 5,
  portalClose: 6,
  /** CopyDone or CopyFail: no answer of its own, but it ends a copy. */
  copyEnd: 7,
} as const;

/** Room to begin with; always a power of two. */
const least = 8;
const none: number[] = [];

/** A client this far ahead of its server waits until it is answered. */
const most = 1 << 20;

/** Who is told what the server has passed over: the code, and whether it was answered. */
export interface Passing {
  passed(code: number, answered: boolean): void;
}

/** The order of what is awaited: PostgreSQL answers in order, or skips up to the next Sync after an error. */
export class Awaited {
  /** How many ReadyForQuery are still to come. */
  replies = 0;
  readonly #owner: Passing;
  /** Made when something is awaited first: most of many clients only sit there. */
  #ring: number[] = none;
  #head = 0;
  #count = 0;

  constructor(owner: Passing) {
    this.#owner = owner;
  }

  get full(): boolean {
    return this.#count >= most;
  }

  push(code: number): void {
    if (this.#count === this.#ring.length) this.#widen();
    this.#ring[(this.#head + this.#count) & (this.#ring.length - 1)] = code;
    this.#count += 1;
    if (code <= awaited.sync) this.replies += 1;
  }

  /** The server has completed a Parse. */
  parseComplete(): void {
    this.#answer(awaited.namedParse, awaited.unnamedParse);
  }

  closeComplete(): void {
    this.#answer(awaited.statementClose, awaited.portalClose);
  }

  /** ReadyForQuery: whatever stood before its Query or Sync and was not answered never will be. */
  ready(): void {
    while (this.#count > 0) {
      const code = this.#shift();
      if (code <= awaited.sync) {
        this.replies -= 1;
        return;
      }
      this.#owner.passed(code, code === awaited.copyEnd);
    }
  }

  /**
   * The server begins to read copy data, and passes over every Sync until the copy ends: those that were already sent will
   * not be answered.
   */
  copyIn(): void {
    // A COPY by Query: that Query is answered when all is done.
    const keep = this.#count > 0 && this.#at(0) === awaited.query ? 1 : 0;
    let ended = false;
    const rest: number[] = [];
    for (let index = 0; index < this.#count; index++) {
      const code = this.#at(index);
      if (index < keep || ended) rest.push(code);
      else if (code === awaited.copyEnd) ended = true;
      else if (code === awaited.sync) this.replies -= 1;
      else rest.push(code);
    }
    this.#head = 0;
    this.#count = 0;
    const replies = this.replies;
    for (const code of rest) this.push(code);
    this.replies = replies;
    this.#copyEndSeen = ended;
  }

  /** Whether the end of the copy that began last had been sent before the server said that it began. */
  get copyEndSeen(): boolean {
    return this.#copyEndSeen;
  }
  #copyEndSeen = false;

  /** Forgets all: the server is gone. */
  clear(): void {
    this.#count = 0;
    this.replies = 0;
  }

  #answer(one: number, other: number): void {
    while (this.#count > 0) {
      const code = this.#at(0);
      // An answer to nothing that was asked: the server is not one we understand; the counts stay right.
      if (code <= awaited.sync) return;
      this.#shift();
      const hit = code === one || code === other;
      this.#owner.passed(code, hit || code === awaited.copyEnd);
      if (hit) return;
    }
  }

  #at(index: number): number {
    return this.#ring[(this.#head + index) & (this.#ring.length - 1)] ?? 0;
  }

  #shift(): number {
    const code = this.#at(0);
    this.#head = (this.#head + 1) & (this.#ring.length - 1);
    this.#count -= 1;
    return code;
  }

  #widen(): void {
    const wider = new Array<number>(Math.max(least, this.#ring.length * 2)).fill(0);
    for (let index = 0; index < this.#count; index++) wider[index] = this.#at(index);
    this.#ring = wider;
    this.#head = 0;
  }
}
