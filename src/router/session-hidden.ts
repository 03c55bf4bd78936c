import type { Log } from "../agent/context.ts";
import { bind, close, execute, parse, sync } from "../pgwire/encode.ts";
import type { Clock } from "../system/clock.ts";
import type { Timers } from "../system/timers.ts";
import { ask } from "./backend-dialogue.ts";
import type { Backend } from "./backend.ts";

// A function can change a session without a word of it in the client's statement. What the functions, triggers and policies of
// a database show of that is read from its catalog now and then, so that such statements are noticed too.

/** What is known of a database's own code. */
export interface Hidden {
  /** Parameters with a dot that its functions and policies name. */
  names: ReadonlySet<string>;
  /** Finds the name of a routine, or of a table with a trigger, that may change the session; null = there are none. */
  words: RegExp | null;
  /** It may have changed since it was read. */
  stale: boolean;
}

/** Read again after this long, for code that changed without the router seeing it. */
const keptMs = 5 * 60_000;
const answerMs = 5_000;
/** More routines than this, and only the names of parameters are used. */
const mostWords = 500;

const named = String.raw`'([a-z_][\w$]*(?:\.[a-z_][\w$]*)+)'`;
const startsStatement = String.raw`(?:^|;|\m(?:begin|then|loop|else)\M|['$])\s*`;
const changing = String.raw`set_config|advisory_|\mtemp(?:orary)?\M|${startsStatement}(?:set|reset|prepare|deallocate|listen|unlisten|discard|load)\M`;

const question = `/* pgherd: what code may do to a session */
with recursive routine as (
  select p.oid, p.proname::text as name, p.prosrc as source
  from pg_catalog.pg_proc p
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    join pg_catalog.pg_language l on l.oid = p.prolang
  where n.nspname not in ('pg_catalog', 'information_schema') and l.lanname not in ('c', 'internal')
  limit 5000
), changing(oid, name) as (
  select oid, name from routine where source ~* $1
  union
  select r.oid, r.name from routine r join changing c
    on pg_catalog.strpos(pg_catalog.lower(r.source), pg_catalog.lower(c.name)) > 0
)
select 'name', pg_catalog.lower(m[1]) from routine, pg_catalog.regexp_matches(source, $2, 'gi') m
union select 'name', pg_catalog.lower(m[1]) from routine, pg_catalog.regexp_matches(source, $3, 'gi') m
union select 'name', pg_catalog.lower(m[1]) from pg_catalog.pg_policy p, pg_catalog.regexp_matches(pg_catalog.concat_ws(' ',
  pg_catalog.pg_get_expr(p.polqual, p.polrelid), pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)), $2, 'gi') m
union select 'word', name from changing
union select 'word', c.relname from changing f
  join pg_catalog.pg_trigger t on t.tgfoid = f.oid join pg_catalog.pg_class c on c.oid = t.tgrelid`;

const parameters = [
  changing,
  String.raw`(?:set_config|current_setting)\s*\(\s*${named}`,
  String.raw`\mset\s+(?:session\s+)?([a-z_][\w$]*(?:\.[a-z_][\w$]*)+)\s*(?:=|\mto\M)`,
];

/** What is known of the code of each database this router has sessions in. */
export class HiddenState {
  readonly #known = new Map<string, Hidden & { readAtMs: number | null; reading: boolean }>();
  readonly #clock: Clock;
  readonly #timers: Timers;
  readonly #log: Log;

  constructor(clock: Clock, timers: Timers, log: Log) {
    this.#clock = clock;
    this.#timers = timers;
    this.#log = log;
  }

  /** The same object for a database each time: what is learned later shows in it. */
  of(database: string): Hidden {
    return this.#entry(database);
  }

  /**
   * Reads it when it is not known, or too old.
   * @param open makes a connection to the database for it
   * @returns whether anything new was learned: sessions may be other than they seemed
   */
  async refresh(database: string, open: () => Promise<Backend>): Promise<boolean> {
    const entry = this.#entry(database);
    const old = entry.readAtMs === null || this.#clock.now() - entry.readAtMs > keptMs;
    if (entry.reading || !(old || entry.stale)) return false;
    entry.reading = true;
    try {
      const rows = await this.#ask(await open());
      entry.readAtMs = this.#clock.now();
      entry.stale = false;
      const learned = learn(entry, rows);
      this.#log("debug", "session.code_read", { database, names: entry.names.size, learned });
      return learned;
    } catch (thrown) {
      // Tried again when the next session comes.
      const why = thrown instanceof Error ? thrown.message : String(thrown);
      this.#log("debug", "session.code_unread", { database, why });
      return false;
    } finally {
      entry.reading = false;
    }
  }

  #entry(database: string): Hidden & { readAtMs: number | null; reading: boolean } {
    const known = this.#known.get(database);
    if (known !== undefined) return known;
    const made = { names: new Set<string>(), words: null, stale: false, readAtMs: null, reading: false };
    this.#known.set(database, made);
    return made;
  }

  async #ask(backend: Backend): Promise<readonly (readonly (string | null)[])[]> {
    const statement = "_pgherd_code";
    const bytes = Buffer.concat([
      parse(statement, question, [25, 25, 25]),
      bind("", statement, parameters),
      execute(""),
      close("statement", statement),
      sync(),
    ]);
    try {
      const { answers } = await ask(backend, { bytes, syncs: 1, timeoutMs: answerMs }, this.#timers);
      const [answer] = answers;
      if (answer === undefined || answer.error !== null)
        throw new Error(answer?.error?.message ?? "no answer");
      return answer.rows;
    } finally {
      backend.socket.destroy();
    }
  }
}

function learn(entry: Hidden, rows: readonly (readonly (string | null)[])[]): boolean {
  const of = (kind: string): string[] =>
    rows.flatMap(([which, text]) => (which === kind ? [text ?? ""] : []));
  const names = new Set(of("name"));
  const words = [...new Set(of("word"))].sort();
  const source = words.map((word) => word.replaceAll(/[^\w$]/g, "\\$&")).join("|");
  const pattern =
    words.length === 0 || words.length > mostWords
      ? null
      : new RegExp(`(?<![\\w$])(?:${source})(?![\\w$])`, "i");
  const same = pattern?.source === entry.words?.source && [...names].every((name) => entry.names.has(name));
  entry.names = names;
  entry.words = pattern;
  return !same;
}
