import { SqlLexer, token } from "./sql-lexer.ts";

/**
 * What a text of SQL, of one statement or several, may do beyond its own transaction, as far as the text shows it: a
 * function can do any of it unseen.
 */
export interface StatementFacts {
  /** It may change what the session keeps: settings, prepared statements, channels, temporary tables, advisory locks. */
  readonly touchesSession: boolean;
  /** What it changes of that stays when the transaction it runs in is rolled back: prepared statements, advisory locks. */
  readonly outlastsRollback: boolean;
  /** It is one EXECUTE, whose arguments do nothing: of the statement of this name; null = it is not. */
  readonly executes: string | null;
  /** Run inside a transaction, it may make something durable: COMMIT, PREPARE TRANSACTION, CALL, DO. */
  readonly mayCommit: boolean;
  /** It ends the transaction it runs in, one way or the other. */
  readonly endsTransaction: boolean;
  /** It is one BEGIN or START TRANSACTION and nothing else: what follows runs inside a transaction. */
  readonly onlyBegins: boolean;
  /** Settings with a dot that are set, in lower case: the catalogue does not list those. Also by SET LOCAL, which leaves the name behind. */
  readonly settings: readonly string[];
  /** Numbers of the parameters (1 = $1) that name a setting in set_config. */
  readonly settingParameters: readonly number[];
  /** A setting is named by an expression: which one it is cannot be told. */
  readonly settingUnknown: boolean;
}

const nothing: StatementFacts = Object.freeze({
  touchesSession: false,
  outlastsRollback: false,
  executes: null,
  mayCommit: false,
  endsTransaction: false,
  onlyBegins: false,
  settings: Object.freeze([]),
  settingParameters: Object.freeze([]),
  settingUnknown: false,
});
const begin: StatementFacts = Object.freeze({ ...nothing, onlyBegins: true });
const commit: StatementFacts = Object.freeze({ ...nothing, mayCommit: true, endsTransaction: true });
const rollback: StatementFacts = Object.freeze({ ...nothing, endsTransaction: true });

/** Words without which a statement that reads or changes rows leaves the session alone. */
const suspicious = /set_config|advisory|temp|u&"/i;

/**
 * Looks at a text, one character per byte. Cheap for what is common; a cache of what was seen is the caller's affair.
 * @param plainStrings standard_conforming_strings, as the server reports it
 */
export function scanStatement(sql: string, plainStrings = true): StatementFacts {
  return simple(sql) ?? new StatementScan(sql, plainStrings).facts();
}

/** The answer for a single statement that begins like most do; null = look closer. */
function simple(sql: string): StatementFacts | null {
  let at = 0;
  while (sql.charCodeAt(at) === 32 || sql.charCodeAt(at) === 10) at++;
  const semicolon = sql.indexOf(";", at);
  if (semicolon !== -1 && semicolon !== sql.length - 1) return null;
  const end = semicolon === -1 ? sql.length : semicolon;
  switch (sql.charCodeAt(at) | 0x20) {
    case 0x73: // s
      return startsWith(sql, at, "select") && !suspicious.test(sql) ? nothing : null;
    case 0x69: // i
      return startsWith(sql, at, "insert") && !suspicious.test(sql) ? nothing : null;
    case 0x75: // u
      return startsWith(sql, at, "update") && !suspicious.test(sql) ? nothing : null;
    case 0x64: // d
      return startsWith(sql, at, "delete") && !suspicious.test(sql) ? nothing : null;
    case 0x77: // w
      return startsWith(sql, at, "with") && !suspicious.test(sql) ? nothing : null;
    case 0x62: // b
      return end === at + 5 && startsWith(sql, at, "begin") ? begin : null;
    case 0x63: // c
      return end === at + 6 && startsWith(sql, at, "commit") ? commit : null;
    case 0x65: // e
      return end === at + 3 && startsWith(sql, at, "end") ? commit : null;
    case 0x72: // r
      return end === at + 8 && startsWith(sql, at, "rollback") ? rollback : null;
    default:
      return null;
  }
}

/** @param word in lower case; what follows it in `sql` must not belong to the word */
function startsWith(sql: string, at: number, word: string): boolean {
  for (let index = 0; index < word.length; index++)
    if ((sql.charCodeAt(at + index) | 0x20) !== word.charCodeAt(index)) return false;
  const after = sql.charCodeAt(at + word.length);
  return Number.isNaN(after) || after <= 0x2f || after === 0x3b;
}

/** Session-level ones; those of the transaction (_xact_) end with it. */
const advisoryLock = /^pg_(try_)?advisory_(un)?lock/;

/** Words in front of TEMP where it makes something, and is not the name of a column. */
const temporaryAfter = /^(create|replace|into|local|global)$/;

class StatementScan {
  readonly #lexer: SqlLexer;
  #touchesSession = false;
  #outlasts = false;
  #executes: string | null = null;
  #mayCommit = false;
  #endsTransaction = false;
  #statements = 0;
  #begins = 0;
  readonly #settings = new Set<string>();
  readonly #settingParameters = new Set<number>();
  #settingUnknown = false;

  constructor(sql: string, plainStrings: boolean) {
    this.#lexer = new SqlLexer(sql, plainStrings);
  }

  facts(): StatementFacts {
    const lexer = this.#lexer;
    lexer.next();
    while (lexer.kind !== token.end) {
      while (lexer.isSymbol("(") || lexer.isSymbol(";")) lexer.next();
      if (lexer.kind === token.end) break;
      this.#statement(lexer.kind === token.word ? (lexer.text ?? "") : "");
    }
    return {
      touchesSession: this.#touchesSession,
      outlastsRollback: this.#outlasts,
      executes: this.#statements === 1 ? this.#executes : null,
      mayCommit: this.#mayCommit,
      endsTransaction: this.#endsTransaction,
      onlyBegins: this.#begins === 1 && this.#statements === 1,
      settings: [...this.#settings],
      settingParameters: [...this.#settingParameters],
      settingUnknown: this.#settingUnknown,
    };
  }

  /** One statement; the lexer stands on its first word, and afterwards behind it. */
  #statement(first: string): void {
    const lexer = this.#lexer;
    this.#statements++;
    switch (first) {
      case "start":
        lexer.next();
        if (lexer.isWord("transaction")) this.#begins++;
        this.#rest("");
        return;
      case "begin":
        this.#begins++;
        this.#rest("");
        return;
      case "set": {
        this.#set();
        return;
      }
      case "reset":
        this.#touchesSession = true;
        lexer.next();
        this.#settingName();
        {
          this.#rest("");
          return;
        }
      case "execute": // What it runs stands elsewhere.
        this.#execute();
        return;
      case "deallocate":
      case "discard":
      case "load":
        this.#stays();
        this.#rest("");
        return;
      case "listen":
      case "unlisten":
        this.#touchesSession = true;
        {
          this.#rest("");
          return;
        }
      case "call":
      case "do":
        this.#stays();
        this.#mayCommit = true;
        {
          this.#rest("");
          return;
        }
      case "commit":
      case "end":
      case "abort":
      case "rollback": {
        this.#transactionEnd(first);
        return;
      }
      case "prepare":
        lexer.next();
        // "transaction" is also a name one may give to a statement.
        if (lexer.isWord("transaction") && lexer.next() === token.string) {
          this.#mayCommit = true;
          this.#endsTransaction = true;
        } else this.#stays();
        {
          this.#rest("");
          return;
        }
      default: {
        this.#rest(first);
        return;
      }
    }
  }

  #transactionEnd(first: string): void {
    const lexer = this.#lexer;
    lexer.next();
    if (lexer.isWord("prepared")) {
      this.#mayCommit = true; // A prepared transaction is ended for good, either way; our own is none.
    } else {
      if (lexer.isWord("work") || lexer.isWord("transaction")) lexer.next();
      const toSavepoint = first === "rollback" && lexer.isWord("to");
      if (!toSavepoint) this.#endsTransaction = true;
      if (first === "commit" || first === "end") this.#mayCommit = true;
    }
    this.#rest("");
  }

  /** It changes what no rollback puts back. */
  #stays(): void {
    this.#touchesSession = true;
    this.#outlasts = true;
  }

  #execute(): void {
    const lexer = this.#lexer;
    lexer.next();
    const named = lexer.kind === token.word || lexer.kind === token.quoted;
    const name = named ? lexer.text : null;
    const before = this.#touchesSession;
    this.#touchesSession = false;
    this.#rest("");
    const touches = this.#touchesSession as boolean;
    if (!before && !touches) this.#executes = name;
    this.#stays();
  }

  #set(): void {
    const lexer = this.#lexer;
    lexer.next();
    const local = lexer.isWord("local");
    if (local || lexer.isWord("session")) lexer.next();
    else if (lexer.isWord("transaction") || lexer.isWord("constraints")) {
      this.#rest("");
      return;
    }
    if (!local) this.#touchesSession = true;
    this.#settingName();
    this.#rest("");
  }

  /** Keeps the name the lexer stands on where it has a dot. */
  #settingName(): void {
    const lexer = this.#lexer;
    let name = "";
    while (lexer.kind === token.word || lexer.kind === token.quoted) {
      if (lexer.text === null) {
        this.#settingUnknown = true;
        return;
      }
      name += lexer.text.toLowerCase();
      lexer.next();
      if (!lexer.isSymbol(".")) break;
      name += ".";
      lexer.next();
    }
    if (name.includes(".")) this.#settings.add(name);
  }

  /** Reads to the end of the statement and watches for what any statement may hold. */
  #rest(first: string): void {
    const lexer = this.#lexer;
    let [parentheses, blocks] = [0, 0];
    let [before, routine] = ["", false];
    while (lexer.kind !== token.end) {
      if (lexer.kind === token.symbol) {
        if (lexer.text === "(") parentheses++;
        else if (lexer.text === ")") parentheses--;
        else if (lexer.text === ";" && parentheses <= 0 && blocks <= 0) return;
      }
      const word = lexer.kind === token.word ? (lexer.text ?? "") : "";
      if (first === "create" && (word === "function" || word === "procedure")) routine = true;
      // The body of a routine in standard SQL has semicolons of its own, between BEGIN ATOMIC and END.
      if (routine && ((word === "atomic" && before === "begin") || (blocks > 0 && word === "case"))) blocks++;
      else if (blocks > 0 && word === "end") blocks--;
      if (
        (first === "declare" && word === "hold" && before === "with") ||
        ((word === "temp" || word === "temporary") && temporaryAfter.test(before))
      )
        this.#touchesSession = true;
      if (word === "execute" && (first === "explain" || (first === "create" && before === "as")))
        this.#stays();
      before = word;
      this.#name();
    }
  }

  /** A name that does something to the session; the lexer then stands behind the token it stood on. */
  #name(): void {
    const lexer = this.#lexer;
    const name = lexer.kind === token.word || lexer.kind === token.quoted ? lexer.text : "";
    lexer.next();
    if (name === "") return;
    if (name === null || (advisoryLock.test(name) && lexer.isSymbol("("))) this.#stays();
    else if (name === "pg_temp") this.#touchesSession = true;
    else if (name === "set_config" && lexer.isSymbol("(")) this.#setConfig();
  }

  /** The arguments of set_config; the lexer then stands on the closing parenthesis. */
  #setConfig(): void {
    const lexer = this.#lexer;
    lexer.next();
    const [kind, text] = [lexer.kind, lexer.text];
    let depth = 0;
    let [before, last] = ["", ""];
    // What goes on behind the first token up to the comma makes the name an expression.
    lexer.next();
    const alone = lexer.isSymbol(",");
    if (alone && kind === token.string && text !== null) {
      if (text.includes(".")) this.#settings.add(text.toLowerCase());
    } else if (alone && kind === token.parameter) this.#settingParameters.add(Number(text));
    else this.#settingUnknown = true;
    for (; lexer.kind !== token.end; lexer.next()) {
      if (lexer.isSymbol("(")) depth++;
      else if (lexer.isSymbol(")") && depth-- === 0) break;
      const name = lexer.kind === token.word || lexer.kind === token.quoted ? lexer.text : "";
      // A call within a call is not worth telling apart.
      if (name === null || name === "set_config") {
        this.#settingUnknown = true;
        this.#stays();
      } else if (advisoryLock.test(name)) this.#stays();
      before = last;
      last = lexer.text ?? "";
    }
    // Whoever says true wants it for the transaction only.
    if (!(before === "," && last === "true")) this.#touchesSession = true;
  }
}
