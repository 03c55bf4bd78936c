import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Client, escapeIdentifier, escapeLiteral } from "pg";
import { z } from "zod";
import { scramVerifier } from "../postgres/scram-verifier.ts";
import { Fault } from "../values/fault.ts";
import { Secret } from "../values/secret.ts";
import type { DemoFile, DemoNode } from "./demo-file.ts";
import { connectionUrl } from "./description.ts";
import { waitUntil, type DemoHost } from "./host.ts";

const secretsSchema = z.object({ superuser: z.object({ username: z.string(), password: z.string() }) });

/** Makes the demo's role and database on the primary, if they are not there yet. Leaves a changed password alone. */
export async function makeRole(demo: DemoFile, leader: DemoNode): Promise<void> {
  const text = await readFile(join(leader.state_dir, "secrets.json"), "utf8");
  const { superuser } = secretsSchema.parse(JSON.parse(text));
  const { name, database, password } = demo.role;
  const connection = {
    host: "127.0.0.1",
    port: leader.port,
    user: superuser.username,
    password: superuser.password,
    database: "postgres",
  };
  await withClient(connection, async (client) => {
    const role = await client.query("select 1 from pg_roles where rolname = $1", [name]);
    if (role.rowCount === 0) {
      const verifier = escapeLiteral(scramVerifier(new Secret(password)));
      await client.query(`create role ${escapeIdentifier(name)} login createdb password ${verifier}`);
    }
    const known = await client.query("select 1 from pg_database where datname = $1", [database]);
    if (known.rowCount === 0)
      await client.query(`create database ${escapeIdentifier(database)} owner ${escapeIdentifier(name)}`);
  });
}

/**
 * Waits until the demo's role can log in on every node: the standbys have replayed it.
 * @throws Fault POSTGRES_UNREACHABLE
 */
export async function roleUsable(demo: DemoFile, host: DemoHost): Promise<void> {
  for (const node of demo.nodes) {
    let problem = "";
    const usable = await waitUntil(host, { limitMs: 20_000, everyMs: 50 }, async () => {
      try {
        await withClient({ connectionString: connectionUrl(demo, [node], null, true) }, (client) =>
          client.query("select 1"),
        );
        return true;
      } catch (thrown) {
        problem = thrown instanceof Error ? thrown.message : String(thrown);
        return null;
      }
    });
    if (usable === null)
      throw new Fault("POSTGRES_UNREACHABLE", `The role ${demo.role.name} cannot log in on ${node.name}.`, {
        detail: problem,
        hint: `Read ${join(node.state_dir, "log")}.`,
      });
  }
}

async function withClient(
  target: ConstructorParameters<typeof Client>[0] & object,
  work: (client: Client) => Promise<unknown>,
): Promise<void> {
  const client = new Client({ ...target, connectionTimeoutMillis: 3_000, query_timeout: 30_000 });
  client.on("error", () => undefined); // a lost connection fails the statement under way, which says so
  try {
    await client.connect();
    await work(client);
  } finally {
    await client.end().catch(() => undefined);
  }
}
