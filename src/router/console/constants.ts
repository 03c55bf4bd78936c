import { columnsOf, type Column, type Table, type Value } from "./table.ts";

/** Who asks, and under which name the console answers. */
export interface Caller {
  readonly user: string;
  readonly database: string;
  readonly pid: number;
  /** Of PostgreSQL's kind: drivers read the major version from its start. */
  readonly serverVersion: string;
  readonly application: string;
}

/** What the console tells a client at the start, as a server does; also answered to `SHOW name`. */
export function reportedParameters(caller: Caller): ReadonlyMap<string, string> {
  return new Map([
    ["server_version", caller.serverVersion],
    ["server_encoding", "UTF8"],
    ["client_encoding", "UTF8"],
    ["application_name", caller.application],
    ["default_transaction_read_only", "off"],
    ["in_hot_standby", "off"],
    ["is_superuser", "on"],
    ["session_authorization", caller.user],
    ["DateStyle", "ISO, MDY"],
    ["IntervalStyle", "postgres"],
    ["TimeZone", "Etc/UTC"],
    ["integer_datetimes", "on"],
    ["standard_conforming_strings", "on"],
  ]);
}

/** Parameters that are asked for and never reported. */
const quietParameters: readonly (readonly [string, string])[] = [
  ["search_path", "pg_catalog"],
  ["transaction_isolation", "read committed"],
  ["default_transaction_isolation", "read committed"],
  ["transaction_read_only", "off"],
  ["lc_collate", "C"],
  ["max_identifier_length", "63"],
];

/**
 * The answer to a question that drivers and pools ask of any server: `SELECT 1`, `SELECT version()`, `SHOW search_path`.
 * `rest`: the words behind the verb in lower case. null = it is another question.
 */
export function constantOf(verb: "SHOW" | "SELECT", rest: readonly string[], caller: Caller): Table | null {
  if (verb === "SHOW") {
    const name = rest.join(" ") === "transaction isolation level" ? "transaction_isolation" : rest.join(" ");
    const known = [...reportedParameters(caller), ...quietParameters];
    const found = known.find(([key]) => key.toLowerCase() === name);
    return found === undefined ? null : single({ name, type: "text" }, found[1]);
  }
  const text = rest.join("").replace(/^pg_catalog\./, "");
  if (/^\d{1,9}$/.test(text)) return single({ name: "?column?", type: "int4" }, Number(text));
  const texts: Readonly<Record<string, string>> = {
    version: `PostgreSQL ${caller.serverVersion}`,
    current_database: caller.database,
    current_user: caller.user,
    session_user: caller.user,
    current_schema: "pg_catalog",
  };
  const name = text.replace(/\(\)$/, "");
  if (name === "pg_backend_pid") return { columns: columnsOf("pg_backend_pid:int4"), rows: [[caller.pid]] };
  const value = texts[name];
  return value === undefined ? null : single({ name, type: "text" }, value);
}

function single(column: Column, value: Value): Table {
  return { columns: [column], rows: [[value]] };
}
