import { bind, close, execute, parse, sync } from "../pgwire/encode.ts";
import type { Timers } from "../system/timers.ts";
import { type Answer, ask, type AsyncSink } from "./backend-dialogue.ts";
import type { Backend } from "./backend.ts";
import type { PinReason } from "./sessions.ts";

// What a session has made of itself on its server, read from the catalogs between two of the client's statements. Texts have
// one character per byte: they are the client's bytes in the client's encoding.

/** A session-level advisory lock, by its row in pg_locks. */
export interface AdvisoryLock {
  readonly classId: string;
  readonly objId: string;
  /** 1 = one key of 64 bits, 2 = two of 32. */
  readonly kind: "1" | "2";
  readonly shared: boolean;
}

/** Everything of a session that a server can tell. */
export interface Snapshot {
  /** Parameters set in the session, with their values as SHOW gives them. */
  readonly settings: ReadonlyMap<string, string>;
  /** `none` = no SET ROLE. */
  readonly role: string;
  readonly sessionUser: string;
  /** Prepared by SQL: name -> text of the whole query string it came in. */
  readonly prepared: ReadonlyMap<string, string>;
  /** Prepared by the protocol. */
  readonly protocolPrepared: ReadonlySet<string>;
  readonly channels: readonly string[];
  readonly locks: readonly AdvisoryLock[];
  readonly temporary: boolean;
  readonly holdCursors: boolean;
}

/** The name of the router's own statement and portal while it asks; names of clients are left alone. */
const ownName = "_pgherd_session_state";

/** Parameters that say how the server is or that hold for a transaction only. */
const notCarried = [
  "transaction_isolation",
  "transaction_read_only",
  "transaction_deferrable",
  "session_authorization",
  "role",
  "is_superuser",
  "in_hot_standby",
  "seed",
];

const equals = "operator(pg_catalog.=)";

/**
 * One statement; every name is qualified, so that no schema in the session's search_path can answer in the catalog's place.
 * Columns: kind, name, value. $1 = names of parameters that pg_settings does not show (an array).
 */
const question = `/* pgherd: session state */
select 'setting', s.name, pg_catalog.current_setting(s.name) from pg_catalog.pg_settings s
  where s.source ${equals} 'session' and s.name operator(pg_catalog.<>) all ('{${notCarried.join(",")}}'::pg_catalog.text[])
union all select 'custom', n, pg_catalog.current_setting(n, true) from pg_catalog.unnest($1::pg_catalog.text[]) n
union all select 'role', pg_catalog.current_setting('role'), null
union all select 'user', pg_catalog.current_setting('session_authorization'), null
union all select case when p.from_sql then 'sql' else 'protocol' end, p.name, case when p.from_sql then p.statement end
  from pg_catalog.pg_prepared_statements p where p.name operator(pg_catalog.<>) '${ownName}'
union all select 'channel', c, null from pg_catalog.pg_listening_channels() c
union all select 'lock', pg_catalog.concat_ws(' ', l.classid, l.objid, l.objsubid), l.mode from pg_catalog.pg_locks l
  where l.locktype ${equals} 'advisory' and l.pid ${equals} pg_catalog.pg_backend_pid() and l.granted
union all (select 'cursor', null, null from pg_catalog.pg_cursors c where c.is_holdable limit 1)
union all (select 'temporary', null, null from pg_catalog.pg_depend d
  where d.refclassid ${equals} 'pg_catalog.pg_namespace'::pg_catalog.regclass
  and d.refobjid ${equals} pg_catalog.pg_my_temp_schema() limit 1)`;

/** The statement is prepared under a name of our own and closed again: the client's unnamed statement stays. */
function asking(
  customNames: Iterable<string>,
  statementTimeoutOff: boolean,
): { bytes: Buffer; syncs: number } {
  const name = Buffer.from(ownName, "latin1");
  const names = [...customNames].map((custom) => `"${custom.replaceAll(/[\\"]/g, "\\$&")}"`);
  const array = Buffer.from(`{${names.join(",")}}`, "latin1");
  const text = 25;
  const parts = [
    // One may be left from a question that was refused half way.
    close("statement", name),
    parse(name, Buffer.from(question, "latin1"), [1009]),
    bind(name, name, [array]),
    execute(name),
    close("statement", name),
    sync(),
  ];
  if (statementTimeoutOff) {
    // Local to the implicit transaction of this batch: the session's own value is back after the Sync.
    const off = "select pg_catalog.set_config('statement_timeout', $1, true)";
    parts.unshift(
      close("statement", name),
      parse(name, off, [text]),
      bind(name, name, ["0"]),
      execute(name),
      close("statement", name),
      close("portal", name),
    );
  }
  return { bytes: Buffer.concat(parts), syncs: 1 };
}

/** The session's own time limit ended the question. */
const cancelled = "57014";

/**
 * Reads the state of a session at rest. The client sees nothing of it.
 * @param customNames parameters with a dot that the client may have set: no catalog lists them
 * @returns null = PostgreSQL refused to say: the state is not known
 * @throws {BackendFailure} the connection is gone
 */
export async function takeSnapshot(
  backend: Backend,
  customNames: Iterable<string>,
  options: { readonly timers: Timers; readonly timeoutMs: number; readonly onAsync: AsyncSink },
): Promise<{ snapshot: Snapshot | null; rest: Buffer }> {
  const run = async (withoutLimit: boolean): Promise<{ answer: Answer | undefined; rest: Buffer }> => {
    const { answers, rest } = await ask(
      backend,
      { ...asking(customNames, withoutLimit), timeoutMs: options.timeoutMs },
      options.timers,
      options.onAsync,
    );
    return { answer: answers[0], rest };
  };
  let { answer, rest } = await run(false);
  let limit: string | null = null;
  if (answer?.error?.code === cancelled && rest.length === 0) {
    const value = await settingOf(backend, "statement_timeout", options);
    ({ answer, rest } = await run(true));
    limit = value;
  }
  if (answer === undefined || answer.error !== null) return { snapshot: null, rest };
  return { snapshot: readSnapshot(answer.rows, limit), rest };
}

async function settingOf(
  backend: Backend,
  name: string,
  options: { readonly timers: Timers; readonly timeoutMs: number; readonly onAsync: AsyncSink },
): Promise<string | null> {
  const own = Buffer.from(ownName, "latin1");
  const bytes = Buffer.concat([
    close("statement", own),
    parse(own, "select pg_catalog.current_setting($1)", [25]),
    bind(own, own, [name]),
    execute(own),
    close("statement", own),
    sync(),
  ]);
  const { answers } = await ask(
    backend,
    { bytes, syncs: 1, timeoutMs: options.timeoutMs },
    options.timers,
    options.onAsync,
  );
  return answers[0]?.rows[0]?.[0] ?? null;
}

/** @param statementTimeout the session's own value when the question was asked with another; null = as the rows say */
function readSnapshot(
  rows: readonly (readonly (string | null)[])[],
  statementTimeout: string | null,
): Snapshot {
  const settings = new Map<string, string>();
  const prepared = new Map<string, string>();
  const protocolPrepared = new Set<string>();
  const channels: string[] = [];
  const locks: AdvisoryLock[] = [];
  let role = "none";
  let sessionUser = "";
  let temporary = false;
  let holdCursors = false;
  for (const [kind, name, value] of rows) {
    const text = value ?? "";
    const named = name ?? "";
    switch (kind ?? "") {
      case "setting":
        settings.set(named, text);
        break;
      case "custom":
        if (value !== null && value !== undefined) settings.set(named, value);
        break;
      case "role":
        role = named;
        break;
      case "user":
        sessionUser = named;
        break;
      case "sql":
        prepared.set(named, text);
        break;
      case "protocol":
        protocolPrepared.add(named);
        break;
      case "channel":
        channels.push(named);
        break;
      case "lock": {
        const [classId = "", objId = "", sub] = named.split(" ");
        locks.push({ classId, objId, kind: sub === "2" ? "2" : "1", shared: text === "ShareLock" });
        break;
      }
      case "temporary":
        temporary = true;
        break;
      case "cursor":
        holdCursors = true;
        break;
      default:
        break;
    }
  }
  if (statementTimeout !== null) settings.set("statement_timeout", statementTimeout);
  return { settings, role, sessionUser, prepared, protocolPrepared, channels, locks, temporary, holdCursors };
}

/** What of a session's state binds it to its server. @param planned whether everybody moves together, behind a gate */
export function pinsOf(snapshot: Snapshot, planned: boolean): PinReason[] {
  const pins: PinReason[] = [];
  if (snapshot.temporary) pins.push("temporary table");
  if (snapshot.holdCursors) pins.push("cursor WITH HOLD");
  // Between two servers that do not change over behind one gate, somebody else may hold the lock by now.
  if (!planned && snapshot.locks.length > 0) pins.push("advisory lock");
  return pins;
}

/** Whether two snapshots of one session say the same. */
export function sameState(one: Snapshot, other: Snapshot): boolean {
  return canonical(one) === canonical(other);
}

function canonical(snapshot: Snapshot): string {
  const { settings, role, sessionUser, prepared, protocolPrepared, channels, locks } = snapshot;
  return JSON.stringify([
    [...settings].sort(byFirst),
    role,
    sessionUser,
    [...prepared].sort(byFirst),
    [...protocolPrepared].sort(),
    [...channels].sort(),
    locks.map((lock) => `${lock.classId} ${lock.objId} ${lock.kind} ${lock.shared}`).sort(),
    snapshot.temporary,
    snapshot.holdCursors,
  ]);
}

function byFirst(one: readonly [string, string], other: readonly [string, string]): number {
  return one[0] < other[0] ? -1 : one[0] > other[0] ? 1 : 0;
}
