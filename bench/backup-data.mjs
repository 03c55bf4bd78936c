// What is backed up: orders with words, numbers and JSON, which compress about as well as a shop's tables do, in pages with
// room for updates in place, so that a share of the pages can be changed exactly.
import pg from "pg";

const words =
  "steel copper linen cotton paper glass oak pine amber ivory violet silver morning evening river harbour \
garden window ladder engine candle mirror basket hammer needle saddle anchor bottle carpet pillow kettle lantern";
/** Bytes of the table for each row, its index included. */
const rowBytes = 330;

/** Runs SQL on a connection of its own. @returns the rows of the last statement */
export async function runSql(account, text, values) {
  const client = new pg.Client({ ...account, connectionTimeoutMillis: 5000, query_timeout: 1_200_000 });
  client.on("error", () => undefined);
  await client.connect();
  try {
    return (await client.query(text, values)).rows;
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** Fills the database with about so many megabytes. @returns the number of rows */
export async function fill(account, megabytes) {
  const rows = Math.ceil((megabytes * 1e6) / rowBytes);
  await runSql(
    account,
    `create table orders (id bigint primary key, customer int, placed timestamptz, amount numeric(12, 2), note text, lines jsonb)
       with (fillfactor = 90)`,
  );
  const list = words.split(/\s+/);
  // In parts: one statement of a gigabyte says nothing for minutes and cannot be interrupted.
  const part = 200_000;
  for (let from = 1; from <= rows; from += part)
    await runSql(
      account,
      `insert into orders
         select id, (random() * 50000)::int, timestamptz '2026-01-01' + id * interval '7 seconds', (random() * 90000)::numeric(12, 2),
           w[1 + id % ${list.length}] || ' ' || w[1 + (random() * ${list.length - 1})::int] || ' ' || md5(id::text) || ' ' ||
             w[1 + (random() * ${list.length - 1})::int],
           jsonb_build_array(
             jsonb_build_object('sku', (random() * 9000)::int, 'count', 1 + (random() * 5)::int, 'name', w[1 + (random() * ${list.length - 1})::int]),
             jsonb_build_object('sku', (random() * 9000)::int, 'count', 1, 'name', w[1 + (random() * ${list.length - 1})::int]))
         from generate_series($1::bigint, $2::bigint) id, (select string_to_array($3, ' ') as w) as list`,
      [from, Math.min(from + part - 1, rows), list.join(" ")],
    );
  await runSql(account, "vacuum analyze orders");
  await runSql(account, "checkpoint");
  return rows;
}

/** Changes one row in each of a share of the table's pages, all over it. @returns the changed pages, as a share of all */
export async function scatter(account, share, round) {
  const every = Math.round(1 / share);
  const [{ pages }] = await runSql(
    account,
    "select (pg_relation_size('orders') / current_setting('block_size')::int)::int as pages",
  );
  const [{ changed }] = await runSql(
    account,
    // By address: a range of addresses that comes from a join would be a scan of the table for every page.
    `with done as (
       update orders set amount = amount + 1
       where ctid = any (array(select format('(%s,1)', page)::tid from generate_series($1::int, $2::int - 1, $3::int) page))
       returning 1)
     select count(*)::int as changed from done`,
    [round % every, pages, every],
  );
  await runSql(account, "checkpoint");
  return changed / pages;
}
