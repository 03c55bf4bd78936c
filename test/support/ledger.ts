import pg from "pg";
import { connectionUrl } from "../../src/demo/description.ts";
import type { TestCluster } from "./cluster.ts";
import { pause } from "./process.ts";

/** One row that was acknowledged: its number, when it was sent and acknowledged (performance.now), and by which node. */
export interface Acknowledged {
  readonly number: number;
  readonly sentAt: number;
  readonly at: number;
  readonly node: string;
}

/** What became of the acknowledged rows. */
export interface LedgerCheck {
  readonly acknowledged: number;
  /** Numbers that were acknowledged and are not there. */
  readonly missing: readonly number[];
  /** Rows that are there although no client ever sent them. */
  readonly strange: readonly number[];
}

/** A client that writes unique numbers without end, walking the nodes' addresses whenever one does not take them. */
export interface Ledger {
  readonly acknowledged: readonly Acknowledged[];
  /** What a connection or a write failed with, as often as it did. */
  readonly failures: readonly string[];
  /** The longest time without an acknowledgement since the mark, in milliseconds. */
  longestGap(): number;
  /** Begins a new measurement of the gap. */
  mark(): void;
  /** Waits until so many more rows are acknowledged. */
  more(rows: number, timeoutMs?: number): Promise<void>;
  /** Ends the client; harmless when it has ended. */
  stop(): Promise<void>;
  /** Stops and compares with the table as this node has it. */
  check(node: string): Promise<LedgerCheck>;
}

const pauseMs = 5;
const retryMs = 10;

/** Makes its table on the primary and begins to write to it. `only`: the client stays with this node. */
export async function startLedger(
  cluster: TestCluster,
  primary: string,
  options: { readonly only?: string; readonly table?: string } = {},
): Promise<Ledger> {
  const demo = await cluster.demo();
  const table = options.table ?? "ledger";
  await cluster.sql(primary, `create table if not exists ${table} (n bigint primary key)`);
  await cluster.sql(primary, `grant all on ${table} to demo`);
  const [row] = await cluster.sql(primary, `select coalesce(max(n), 0)::int as last from ${table}`);
  const first = Number(row?.["last"] ?? 0) + 1;
  const nodes = demo.nodes.filter((node) => options.only === undefined || node.name === options.only);
  const addresses = nodes.map((node) => ({ node: node.name, url: connectionUrl(demo, [node], null, true) }));
  const acknowledged: Acknowledged[] = [];
  const failures: string[] = [];
  let next = first;
  let turn = Math.max(
    0,
    addresses.findIndex((each) => each.node === primary),
  );
  const state = { running: true };
  let marked = performance.now();
  const write = async (): Promise<void> => {
    const address = addresses[turn % addresses.length];
    turn += 1;
    if (address === undefined) return;
    const client = new pg.Client({
      connectionString: address.url,
      connectionTimeoutMillis: 1000,
      query_timeout: 5000,
    });
    client.on("error", () => undefined);
    try {
      await client.connect();
      while (state.running) {
        const number = next;
        next += 1; // a number whose outcome is unknown is never sent again
        const sentAt = performance.now();
        await client.query(`insert into ${table} values ($1)`, [number]);
        acknowledged.push({ number, sentAt, at: performance.now(), node: address.node });
        await pause(pauseMs);
      }
    } catch (error) {
      failures.push(`${address.node}: ${error instanceof Error ? error.message : String(error)}`);
      await pause(retryMs);
    } finally {
      void client.end().catch(() => undefined);
    }
  };
  const work = (async (): Promise<void> => {
    while (state.running) await write();
  })();
  const stop = async (): Promise<void> => {
    state.running = false;
    await work;
  };
  cluster.afterScenario.push(stop);
  return {
    acknowledged,
    failures,
    mark: () => {
      marked = performance.now();
    },
    longestGap: () => {
      let before = marked;
      let longest = 0;
      for (const { at } of acknowledged) {
        if (at < marked) continue;
        longest = Math.max(longest, at - before);
        before = at;
      }
      return Math.max(longest, state.running ? performance.now() - before : 0);
    },
    more: async (rows, timeoutMs = 30_000) => {
      const wanted = acknowledged.length + rows;
      const end = performance.now() + timeoutMs;
      while (acknowledged.length < wanted) {
        if (performance.now() > end)
          throw new Error(`no ${rows} more rows were acknowledged within ${timeoutMs} ms`);
        await pause(5);
      }
    },
    stop,
    check: async (node) => {
      await stop();
      const rows = await cluster.sql(node, `select n::int as n from ${table} where n >= ${first}`);
      const there = new Set(rows.map((each) => Number(each["n"])));
      return {
        acknowledged: acknowledged.length,
        missing: acknowledged.filter(({ number }) => !there.has(number)).map(({ number }) => number),
        strange: [...there].filter((number) => number >= next),
      };
    },
  };
}
