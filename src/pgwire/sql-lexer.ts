/** What a token is. Comments and white space are none. */
export const token = {
  end: 0,
  /** A key word or a name without quotes; `text` in lower case. */
  word: 1,
  /** A name in double quotes; `text` as it is meant, or null where it has escapes. */
  quoted: 2,
  /** A string of any kind; `text` = its value, or null where it has escapes. */
  string: 3,
  /** $1; `text` = the number. */
  parameter: 4,
  /** One character of anything else; `text` = that character. */
  symbol: 5,
} as const;

const [tab, lineFeed, carriageReturn, blank] = [9, 10, 13, 32];
const [doubleQuote, dollar, ampersand, quote] = [0x22, 0x24, 0x26, 0x27];
const [star, minus, slash, backslash] = [0x2a, 0x2d, 0x2f, 0x5c];

function isSpace(code: number): boolean {
  return code === blank || (code >= tab && code <= carriageReturn);
}

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}

function beginsName(code: number): boolean {
  const lower = code | 0x20;
  return (lower >= 0x61 && lower <= 0x7a) || code === 0x5f || code >= 0x80;
}

function continuesName(code: number): boolean {
  return beginsName(code) || isDigit(code) || code === dollar;
}

/**
 * Cuts the text of SQL into tokens as PostgreSQL's scanner does, as far as it takes to tell names from strings and comments.
 * One character per byte. Whatever is not closed reaches to the end: the server refuses such a text as a whole.
 */
export class SqlLexer {
  readonly #sql: string;
  readonly #plainStrings: boolean;
  #at = 0;
  kind: number = token.end;
  text: string | null = "";

  /** @param plainStrings standard_conforming_strings: a backslash in '...' is nothing special */
  constructor(sql: string, plainStrings: boolean) {
    this.#sql = sql;
    this.#plainStrings = plainStrings;
  }

  /** Goes to the next token and returns its kind; after the end it stays there. */
  next(): number {
    this.#skipSpace();
    const sql = this.#sql;
    const from = this.#at;
    if (from >= sql.length) return this.#found(token.end, "");
    const code = sql.charCodeAt(from);
    if (beginsName(code)) return this.#name(from);
    if (code === quote) return this.#string(from + 1, !this.#plainStrings);
    if (code === doubleQuote) return this.#quotedName(from + 1);
    if (code === dollar) return this.#dollar(from);
    this.#at = from + 1;
    return this.#found(token.symbol, sql[from] ?? "");
  }

  /** Where the token ends. */
  get end(): number {
    return this.#at;
  }

  isWord(text: string): boolean {
    return this.kind === token.word && this.text === text;
  }

  isSymbol(text: string): boolean {
    return this.kind === token.symbol && this.text === text;
  }

  #found(kind: number, text: string | null): number {
    this.text = text;
    return (this.kind = kind);
  }

  #skipSpace(): void {
    const sql = this.#sql;
    for (;;) {
      const code = sql.charCodeAt(this.#at);
      if (isSpace(code)) this.#at++;
      else if (code === minus && sql.charCodeAt(this.#at + 1) === minus) this.#skipLine();
      else if (code === slash && sql.charCodeAt(this.#at + 1) === star) this.#skipComment();
      else return;
    }
  }

  #skipLine(): void {
    for (let code = minus; code !== lineFeed && code !== carriageReturn;) {
      code = this.#sql.charCodeAt(++this.#at);
      if (this.#at >= this.#sql.length) return;
    }
  }

  /** They nest. */
  #skipComment(): void {
    const sql = this.#sql;
    let depth = 0;
    while (this.#at < sql.length) {
      const code = sql.charCodeAt(this.#at);
      const next = sql.charCodeAt(this.#at + 1);
      if (code === slash && next === star) depth++;
      else if (code === star && next === slash) depth--;
      else {
        this.#at++;
        continue;
      }
      this.#at += 2;
      if (depth === 0) return;
    }
  }

  #name(from: number): number {
    const sql = this.#sql;
    let to = from + 1;
    while (to < sql.length && continuesName(sql.charCodeAt(to))) to++;
    const after = sql.charCodeAt(to);
    if (to === from + 1) {
      const letter = sql.charCodeAt(from) | 0x20;
      // e'' has escapes; b'', n'' and x'' have not.
      if (after === quote && letter === 0x65) return this.#string(to + 1, true);
      if (after === quote && (letter === 0x62 || letter === 0x6e || letter === 0x78))
        return this.#string(to + 1, !this.#plainStrings);
      if (after === ampersand && letter === 0x75) {
        const marks = sql.charCodeAt(to + 1);
        if (marks === quote) return this.#escaped(this.#string(to + 2, false));
        if (marks === doubleQuote) return this.#escaped(this.#quotedName(to + 2));
      }
    }
    this.#at = to;
    return this.#found(token.word, sql.slice(from, to).toLowerCase());
  }

  /** U&'...' and U&"..." may spell any character by its number. */
  #escaped(kind: number): number {
    return this.#found(kind, this.text?.includes("\\") === false ? this.text : null);
  }

  #string(from: number, escapes: boolean): number {
    const sql = this.#sql;
    let plain = true;
    let at = from;
    for (; at < sql.length; at++) {
      const code = sql.charCodeAt(at);
      if (code === backslash && escapes) {
        plain = false;
        at++;
      } else if (code === quote) {
        if (sql.charCodeAt(at + 1) !== quote) break;
        plain = false;
        at++;
      }
    }
    this.#at = at + 1;
    return this.#found(token.string, plain ? sql.slice(from, at) : null);
  }

  #quotedName(from: number): number {
    const sql = this.#sql;
    let at = from;
    for (; at < sql.length; at++)
      if (sql.charCodeAt(at) === doubleQuote && sql.charCodeAt(++at) !== doubleQuote) {
        this.#at = at;
        return this.#found(token.quoted, sql.slice(from, at - 1).replaceAll('""', '"'));
      }
    this.#at = sql.length;
    return this.#found(token.quoted, sql.slice(from));
  }

  #dollar(from: number): number {
    const sql = this.#sql;
    let to = from + 1;
    if (isDigit(sql.charCodeAt(to))) {
      while (isDigit(sql.charCodeAt(to))) to++;
      this.#at = to;
      return this.#found(token.parameter, sql.slice(from + 1, to));
    }
    while (
      to < sql.length &&
      sql.charCodeAt(to) !== dollar &&
      continuesName(sql.charCodeAt(to)) &&
      (to > from + 1 || beginsName(sql.charCodeAt(to)))
    )
      to++;
    if (sql.charCodeAt(to) !== dollar) {
      this.#at = from + 1;
      return this.#found(token.symbol, "$");
    }
    const mark = sql.slice(from, to + 1);
    const close = sql.indexOf(mark, to + 1);
    const end = close === -1 ? sql.length : close;
    this.#at = end + mark.length;
    return this.#found(token.string, sql.slice(to + 1, end));
  }
}
