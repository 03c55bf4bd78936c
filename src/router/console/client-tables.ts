import type { NodeName } from "../../values/names.ts";
import type { SessionView } from "../sessions.ts";
import type { RouterSource } from "./source.ts";
import { columnsOf, type Row, type Table } from "./table.ts";

// The columns that PgBouncer has stand first, under its names and with its words, so that what reads its console reads this
// one; ours follow. What the router does not have (a local address of a pooled connection, for one) is NULL or 0.

const socketColumns =
  "type user database state addr port:int4 local_addr local_port:int4 connect_time request_time " +
  "wait:int4 wait_us:int4 close_needed:int4 ptr link remote_pid:int4 tls application_name";

const clientColumns = columnsOf(`${socketColumns} id:int8 session_state listener node carried:int8 pinned`);
const serverColumns = columnsOf(`${socketColumns} id:int8 session_state listener node`);

/** `SHOW CLIENTS`. @param nowMs civil time, milliseconds since the epoch */
export function clientsTable(source: RouterSource, nowMs: number): Table {
  return { columns: clientColumns, rows: mapped(source.sessions(), (view) => clientRow(view, nowMs)) };
}

function clientRow(view: SessionView, nowMs: number): Row {
  const waitMs = isWaiting(view) ? view.stateMs : 0;
  return [
    ...["C", view.user, view.database, clientState(view), view.address, view.port, null, null],
    ...[timeAgo(nowMs, view.connectedMs), timeAgo(nowMs, view.stateMs)],
    ...[Math.floor(waitMs / 1000), microseconds(waitMs), 0],
    ...[`c${view.id}`, view.node === null ? "" : `s${view.id}`, 0],
    ...[view.encrypted ? "TLS" : "", view.application],
    ...[view.id, view.state, view.listener, view.node, view.carried, view.pinned.join(", ")],
  ];
}

/** `SHOW SERVERS`: the connections to PostgreSQL, one for each session that has its server. */
export function serversTable(source: RouterSource, nowMs: number): Table {
  const routes = source.topology();
  const addresses = new Map<NodeName, { readonly host: string; readonly port: number }>();
  for (const route of routes.primary === null ? routes.standbys : [...routes.standbys, routes.primary])
    addresses.set(route.node, route);
  function* rows(): Generator<Row> {
    for (const view of source.sessions()) {
      if (view.node === null) continue;
      const address = addresses.get(view.node);
      const state = view.state === "active" || view.state === "transaction" ? "active" : "idle";
      yield [
        ...["S", view.user, view.database, state, address?.host ?? null, address?.port ?? null, null, null],
        ...[timeAgo(nowMs, view.connectedMs), timeAgo(nowMs, view.stateMs), 0, 0, 0],
        ...[`s${view.id}`, `c${view.id}`, view.serverPid ?? 0, "", view.application],
        ...[view.id, view.state, view.listener, view.node],
      ];
    }
  }
  return { columns: serverColumns, rows: rows() };
}

const poolColumns = columnsOf(
  "database user cl_active:int4 cl_waiting:int4 cl_active_cancel_req:int4 cl_waiting_cancel_req:int4 sv_active:int4 " +
    "sv_active_cancel:int4 sv_being_canceled:int4 sv_idle:int4 sv_used:int4 sv_tested:int4 sv_login:int4 maxwait:int4 " +
    "maxwait_us:int4 pool_mode",
);

interface Pool {
  readonly database: string;
  readonly user: string;
  active: number;
  waiting: number;
  linked: number;
  login: number;
  maxWaitMs: number;
}

/** `SHOW POOLS`: the sessions by database and user. */
export function poolsTable(source: RouterSource): Table {
  const rows = [...poolsOf(source).values()].map((pool): Row => [
    ...[pool.database, pool.user, pool.active, pool.waiting, 0, 0, pool.linked, 0, 0, 0, 0, 0, pool.login],
    ...[Math.floor(pool.maxWaitMs / 1000), microseconds(pool.maxWaitMs), "session"],
  ]);
  return { columns: poolColumns, rows };
}

function poolsOf(source: RouterSource): ReadonlyMap<string, Pool> {
  const pools = new Map<string, Pool>();
  for (const view of source.sessions()) {
    const key = `${view.database}\0${view.user}`;
    let pool = pools.get(key);
    if (pool === undefined) {
      const { database, user } = view;
      pool = { database, user, active: 0, waiting: 0, linked: 0, login: 0, maxWaitMs: 0 };
      pools.set(key, pool);
    }
    if (isWaiting(view)) {
      pool.waiting += 1;
      pool.maxWaitMs = Math.max(pool.maxWaitMs, view.stateMs);
    } else if (view.state === "login") pool.login += 1;
    else pool.active += 1;
    if (view.node !== null && view.state !== "login") pool.linked += 1;
  }
  return pools;
}

const databaseColumns = columnsOf(
  "name host port:int4 database force_user pool_size:int4 min_pool_size:int4 reserve_pool:int4 pool_mode " +
    "max_connections:int4 current_connections:int4 paused:int4 disabled:int4",
);

/** `SHOW DATABASES`: those that have sessions; the router serves every database of the cluster. 0 = no limit. */
export function databasesTable(source: RouterSource): Table {
  const counts = countBy(source.sessions(), (view) => view.database);
  const primary = source.topology().primary;
  const paused = new Set(source.pauses().map((pause) => pause.database));
  const rows = [...counts].map(([name, count]): Row => [
    ...[name, primary?.host ?? null, primary?.port ?? null, name, null, 0, 0, 0, "session", 0, count],
    ...[paused.has(null) || paused.has(name) ? 1 : 0, 0],
  ]);
  return { columns: databaseColumns, rows };
}

/** `SHOW USERS`: those that have sessions. */
export function usersTable(source: RouterSource): Table {
  const counts = countBy(source.sessions(), (view) => view.user);
  return {
    columns: columnsOf("name pool_mode sessions:int4"),
    rows: [...counts].map(([name, count]) => [name, "session", count]),
  };
}

/** `SHOW LISTS`: how many there are of everything. */
export function listsTable(source: RouterSource): Table {
  const databases = new Set<string>();
  const users = new Set<string>();
  const counts = { clients: 0, login: 0, servers: 0 };
  const pools = new Set<string>();
  for (const view of source.sessions()) {
    databases.add(view.database);
    users.add(view.user);
    pools.add(`${view.database}\0${view.user}`);
    counts.clients += 1;
    if (view.state === "login") counts.login += 1;
    if (view.node !== null) counts.servers += 1;
  }
  const rows: readonly (readonly [string, number])[] = [
    ["databases", databases.size],
    ["users", users.size],
    ["pools", pools.size],
    ["free_clients", 0],
    ["used_clients", counts.clients],
    ["login_clients", counts.login],
    ["free_servers", 0],
    ["used_servers", counts.servers],
    ["dns_names", 0],
    ["dns_zones", 0],
    ["dns_queries", 0],
    ["dns_pending", 0],
    ["streams", source.streams()],
  ];
  return { columns: columnsOf("list items:int4"), rows };
}

const exampleColumns = columnsOf("reason user database application_name addr port:int4 id:int8 state node");

/** `SHOW PINNED`: the sessions that a move would cut, one row for each reason. */
export function pinnedTable(source: RouterSource): Table {
  function* rows(): Generator<Row> {
    for (const view of source.sessions())
      for (const reason of view.pinned)
        yield [
          ...[reason, view.user, view.database, view.application, view.address, view.port],
          ...[view.id, view.state, view.node],
        ];
  }
  return { columns: exampleColumns, rows: rows() };
}

function isWaiting(view: SessionView): boolean {
  return view.state === "waiting" || view.state === "held";
}

function clientState(view: SessionView): string {
  if (isWaiting(view)) return "waiting";
  if (view.state === "login" || view.state === "idle") return view.state;
  return "active";
}

function microseconds(ms: number): number {
  return Math.floor((ms % 1000) * 1000);
}

/** A time as PgBouncer writes it, in UTC. */
function timeText(atMs: number): string {
  return `${new Date(atMs).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

function timeAgo(nowMs: number, agoMs: number): string {
  return timeText(nowMs - agoMs);
}

function countBy(
  sessions: Iterable<SessionView>,
  key: (view: SessionView) => string,
): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const view of sessions) counts.set(key(view), (counts.get(key(view)) ?? 0) + 1);
  return counts;
}

function* mapped<From, To>(items: Iterable<From>, change: (item: From) => To): Generator<To> {
  for (const item of items) yield change(item);
}
