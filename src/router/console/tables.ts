import type { Clock } from "../../system/clock.ts";
import {
  clientsTable,
  databasesTable,
  listsTable,
  pinnedTable,
  poolsTable,
  serversTable,
  usersTable,
} from "./client-tables.ts";
import { poolNodesTable, routersTable, vipsTable } from "./cluster-tables.ts";
import type { TableName } from "./command.ts";
import { statsAveragesTable, statsTable, statsTotalsTable, totalsTable } from "./figure-tables.ts";
import type { Rates } from "./rates.ts";
import { configTable } from "./settings-table.ts";
import type { RouterSource } from "./source.ts";
import { columnsOf, type Table } from "./table.ts";

/** What the tables are made from. */
export interface TableMaker {
  readonly source: RouterSource;
  readonly rates: Rates;
  readonly clock: Clock;
}

const makers: Readonly<Record<Exclude<TableName, "help">, (from: TableMaker) => Table>> = {
  clients: ({ source, clock }) => clientsTable(source, Date.parse(clock.wall())),
  config: ({ source }) => configTable(source),
  databases: ({ source }) => databasesTable(source),
  lists: ({ source }) => listsTable(source),
  pinned: ({ source }) => pinnedTable(source),
  pool_nodes: ({ source }) => poolNodesTable(source),
  pool_version: ({ source }) => ({ columns: columnsOf("pool_version"), rows: [[versionText(source)]] }),
  pools: ({ source }) => poolsTable(source),
  routers: ({ source }) => routersTable(source),
  servers: ({ source, clock }) => serversTable(source, Date.parse(clock.wall())),
  state: ({ source }) => stateTable(source),
  stats: ({ source, rates }) => statsTable(source, rates),
  stats_averages: ({ source, rates }) => statsAveragesTable(source, rates),
  stats_totals: ({ source }) => statsTotalsTable(source),
  totals: ({ source }) => totalsTable(source),
  users: ({ source }) => usersTable(source),
  version: ({ source }) => ({ columns: columnsOf("version"), rows: [[versionText(source)]] }),
  vips: ({ source }) => vipsTable(source),
};

/** The table of a `SHOW`. */
export function tableOf(name: Exclude<TableName, "help">, from: TableMaker): Table {
  return makers[name](from);
}

function versionText(source: RouterSource): string {
  return `pgherd ${source.identity.version}`;
}

/** `SHOW STATE`: one row for each thing that is open or not, as PgBouncer's key and value. */
function stateTable(source: RouterSource): Table {
  const pauses = source.pauses();
  const everything = pauses.some((pause) => pause.database === null);
  return {
    columns: columnsOf("key value"),
    rows: [
      ["active", everything ? "no" : "yes"],
      ["paused", everything ? "yes" : "no"],
      ["suspended", "no"],
      ["paused_databases", pauses.flatMap((pause) => pause.database ?? []).join(", ")],
      ["gate", source.topology().gate?.phase ?? ""],
    ],
  };
}
