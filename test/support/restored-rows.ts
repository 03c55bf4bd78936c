import { readFileSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { nodeOf } from "../../src/demo/demo-file.ts";
import type { TestCluster } from "./cluster.ts";

/** The numbers in a table of a server that was restored and started on this host: the cluster's superuser is its own. */
export async function restoredRows(
  cluster: TestCluster,
  port: number,
  table: string,
): Promise<ReadonlySet<number>> {
  const { state_dir } = nodeOf(await cluster.demo(), (await cluster.names())[0] ?? "");
  const { superuser } = JSON.parse(readFileSync(join(state_dir, "secrets.json"), "utf8")) as {
    readonly superuser: { readonly username: string; readonly password: string };
  };
  const client = new pg.Client({
    host: "127.0.0.1",
    port,
    user: superuser.username,
    password: superuser.password,
    database: "demo",
    connectionTimeoutMillis: 5000,
    query_timeout: 30_000,
  });
  await client.connect();
  try {
    const { rows } = await client.query<{ n: string }>(`select n from ${table}`);
    return new Set(rows.map(({ n }) => Number(n)));
  } finally {
    await client.end();
  }
}
