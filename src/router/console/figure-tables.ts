import type { ListenerCounters } from "../sessions.ts";
import type { ListenerView, RouterSource } from "./source.ts";
import type { Rates } from "./rates.ts";
import { columnsOf, type Row, type Table } from "./table.ts";

const perListener =
  "listener target accepted:int8 refused:int8 held:int8 carried:int8 cut:int8 failed_transactions:int8 unknown_outcomes:int8";

const statColumns = columnsOf(
  "database total_xact_count:int8 total_query_count:int8 total_received:int8 total_sent:int8 total_xact_time:int8 " +
    "total_query_time:int8 total_wait_time:int8 avg_xact_count:int8 avg_query_count:int8 avg_recv:int8 avg_sent:int8 " +
    `avg_xact_time:int8 avg_query_time:int8 avg_wait_time:int8 ${perListener}`,
);

/**
 * `SHOW STATS`. The router counts by listener, so `database` is the name of the listener. What it does not measure (the
 * time inside transactions) is NULL.
 */
export function statsTable(source: RouterSource, rates: Rates): Table {
  const rows = source.listeners().map((listener): Row => {
    const { counters } = listener;
    const rate = rates.of(listener.name);
    return [
      ...[listener.name, ...totals(counters), null, null, null],
      ...[rate.transactions, rate.queries, rate.bytesFromClients, rate.bytesFromServers],
      ...[null, null, null],
      ...ownFigures(listener),
    ];
  });
  return { columns: statColumns, rows };
}

function totals(counters: Readonly<ListenerCounters>): readonly number[] {
  const { transactions, queries, bytesFromClients, bytesFromServers } = counters;
  return [transactions, queries, bytesFromClients, bytesFromServers];
}

function ownFigures({ name, target, counters }: ListenerView): Row {
  const { accepted, refused, held, carried, cut, failedTransactions, unknownOutcomes } = counters;
  return [name, target, accepted, refused, held, carried, cut, failedTransactions, unknownOutcomes];
}

const shortColumns = columnsOf(
  "database xact_count:int8 query_count:int8 bytes_received:int8 bytes_sent:int8 xact_time:int8 query_time:int8 wait_time:int8",
);

/** `SHOW STATS_TOTALS` */
export function statsTotalsTable(source: RouterSource): Table {
  const rows = source
    .listeners()
    .map(({ name, counters }): Row => [name, ...totals(counters), null, null, null]);
  return { columns: shortColumns, rows };
}

/** `SHOW STATS_AVERAGES`: per second, over the last whole minute or since the start. */
export function statsAveragesTable(source: RouterSource, rates: Rates): Table {
  const rows = source.listeners().map(({ name }): Row => {
    const rate = rates.of(name);
    return [
      ...[name, rate.transactions, rate.queries, rate.bytesFromClients, rate.bytesFromServers],
      ...[null, null, null],
    ];
  });
  return { columns: shortColumns, rows };
}

/** `SHOW TOTALS`: the counters of all listeners together. */
export function totalsTable(source: RouterSource): Table {
  const sums = new Map<string, number>();
  const add = (name: string, value: number): void => {
    sums.set(name, (sums.get(name) ?? 0) + value);
  };
  for (const { counters } of source.listeners()) {
    add("total_xact_count", counters.transactions);
    add("total_query_count", counters.queries);
    add("total_client_bytes", counters.bytesFromClients);
    add("total_server_bytes", counters.bytesFromServers);
    add("total_accepted", counters.accepted);
    add("total_refused", counters.refused);
    add("total_held", counters.held);
    add("total_carried", counters.carried);
    add("total_cut", counters.cut);
    add("total_failed_transactions", counters.failedTransactions);
    add("total_unknown_outcomes", counters.unknownOutcomes);
  }
  return { columns: columnsOf("name value:int8"), rows: [...sums] };
}
