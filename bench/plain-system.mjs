// Plain PostgreSQL with two standbys and nothing beside it: the peer of the durability figures.
import { chownSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { say } from "../scripts/run.mjs";
import { capture, freePorts, waitFor } from "./processes.mjs";

const bin = "/usr/lib/postgresql/15/bin";

/** What belongs to one server's place, and what pgherd keeps for its own work. */
const placeBound =
  /file$|_directory$|_directories$|^port$|^listen_|^primary_|^cluster_name$|^restore_command$|^synchronous_standby_names$|^log|^recovery_|^restart_after_crash$|^hot_standby$|^data_|^config_|^promote_/;

/**
 * Starts a primary and its standbys with the settings of a running server.
 * @param {{dir: string, like: pg.ClientConfig, signal: AbortSignal, standbys?: number}} given
 */
export async function startPlain({ dir, like, signal, standbys = 2 }) {
  say(`plain PostgreSQL: starting a primary and ${standbys} standbys`);
  const settings = await settingsOf(like);
  const asRoot = process.getuid() === 0;
  const [uid, gid] = asRoot ? await postgresIds() : [null, null];
  const run = (program, ...args) =>
    capture(
      [
        ...(asRoot ? ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] : []),
        join(bin, program),
        ...args,
      ],
      { signal },
    );
  const base = join(dir, "plain");
  mkdirSync(base);
  if (asRoot) chownSync(base, uid, gid);
  const nodes = [];
  const start = async (node) => {
    writeFileSync(
      join(node.dir, "postgresql.conf"),
      [
        ...settings.map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'`),
        `port = ${node.port}`,
        "listen_addresses = '127.0.0.1'",
        `unix_socket_directories = '${base}'`,
        "synchronous_standby_names = ''",
        `primary_conninfo = '${node.upstream ?? ""}'`,
      ].join("\n"),
    );
    if (node.upstream !== undefined) writeFileSync(join(node.dir, "standby.signal"), "");
    await run("pg_ctl", "-D", node.dir, "-w", "-l", join(node.dir, "log"), "start");
  };
  const stop = () =>
    Promise.all(
      nodes.map((node) => run("pg_ctl", "-D", node.dir, "-m", "immediate", "stop").catch(() => undefined)),
    );
  try {
    const ports = await freePorts(1 + standbys);
    const primary = { name: "p1", dir: join(base, "p1"), port: ports[0] };
    nodes.push(primary);
    await run("initdb", "-D", primary.dir, "-U", "postgres", "-A", "trust", "-k");
    await start(primary);
    for (const [index, name] of ["p2", "p3"].slice(0, standbys).entries()) {
      const node = { name, dir: join(base, name), port: ports[index + 1] };
      const conninfo = `host=127.0.0.1 port=${primary.port} user=postgres`;
      await run("pg_basebackup", "-D", node.dir, "-d", conninfo, "-c", "fast");
      nodes.push({ ...node, upstream: `${conninfo} application_name=${name}` });
      await start(nodes.at(-1));
    }
    const client = { host: "127.0.0.1", port: primary.port, user: "postgres", database: "postgres" };
    return {
      name: "plain",
      client,
      /** How many standbys a commit waits for: any of both. */
      async setRequired(count) {
        const names = count === 0 ? "" : `ANY ${count} (p2, p3)`;
        await withClient(client, async (sql) => {
          await sql.query(`alter system set synchronous_standby_names = '${names}'`);
          await sql.query("select pg_reload_conf()");
          await waitFor("synchronous standbys", { limitMs: 20_000, signal }, async () => {
            const { rows } = await sql.query(
              "select count(*)::int as there from pg_stat_replication where sync_state = 'quorum'",
            );
            return rows[0].there === (count === 0 ? 0 : 2) ? true : null;
          });
        });
      },
      down: stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function settingsOf(like) {
  return withClient(like, async (sql) => {
    const { rows } = await sql.query(
      "select name, current_setting(name) as value from pg_settings where source in ('configuration file', 'command line')",
    );
    return rows.filter((row) => !placeBound.test(row.name)).map((row) => [row.name, row.value]);
  });
}

/** Runs work on a connection of its own. */
async function withClient(config, work) {
  const client = new pg.Client({ ...config, connectionTimeoutMillis: 5000 });
  client.on("error", () => undefined);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

async function postgresIds() {
  const [uid, gid] = await Promise.all([
    capture(["id", "-u", "postgres"]),
    capture(["id", "-g", "postgres"]),
  ]);
  return [Number(uid), Number(gid)];
}
