import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { makeHosts, type TestHosts } from "./hosts.ts";
import { binDir } from "./postgres.ts";
import { makeTempDir, killProcessesUnder, waitFor, type TestProcess } from "./process.ts";

const program = join(import.meta.dirname, "../../bin/pgherd");
const nodes = ["db1", "db2"] as const;
/** Holds the store. */
const elsewhere = "far";
/** Holds clients. */
const application = "app";

/** Two database hosts with agents, one with the store, and one for clients, each with a network of its own. Routers where told. */
export interface HostCluster {
  readonly hosts: TestHosts;
  readonly dir: string;
  /** The host of the store. */
  readonly far: string;
  /** A host with nothing on it. */
  readonly app: string;
  /** The node that is primary, by what PostgreSQL says. */
  leader(): Promise<string>;
  /** Runs the command line on the first node's host. @throws Error with what it said */
  pgherd(...words: readonly string[]): Promise<string>;
  /** One statement over TCP from a host. @throws Error with what psql said */
  sql(from: string, address: string, port: number, text: string): Promise<string>;
  /** Starts a router on a host with these keys beside the usual ones. @throws Error with what it said when it ends instead */
  startRouter(
    host: string,
    keys: Readonly<Record<string, unknown>>,
    as?: "root" | "user",
  ): Promise<TestProcess>;
  /** The program. */
  readonly psql: string;
  /** The environment with which psql and drivers log in. */
  readonly login: Readonly<Record<string, string>>;
  remove(): Promise<void>;
}

/** Makes the hosts, starts etcd and both agents, and waits until the second streams from the first. */
export async function makeHostCluster(): Promise<HostCluster> {
  const temp = makeTempDir("hosts");
  const hosts = await makeHosts([...nodes, elsewhere, application]);
  const started: TestProcess[] = [];
  const store = `http://${hosts.four(elsewhere)}:2379`;
  const etcd = hosts.start(
    elsewhere,
    [
      ...["etcd", "--data-dir", join(temp.path, "etcd"), "--listen-client-urls", store],
      ...["--advertise-client-urls", store, "--listen-peer-urls", "http://127.0.0.1:2380"],
    ],
    { logFile: join(temp.path, "etcd.log") },
  );
  started.push(etcd);
  const dcs = { etcd: [`${hosts.four(elsewhere)}:2379`] };
  let routersStarted = 0;
  const placeOf = (host: string): string => join(temp.path, host);
  const startAgent = (node: string): void => {
    const place = placeOf(node);
    mkdirSync(place, { recursive: true });
    const file = join(place, "node.yml");
    const content = {
      cluster: "hosts",
      node,
      address: node,
      data_dir: join(place, "data"),
      bin_dir: binDir,
      dcs,
      bootstrap: { settings: { ttl: "3s" } },
    };
    writeFileSync(file, stringify(content), { mode: 0o600 });
    const argv = [process.execPath, program, "agent", "--config", file];
    started.push(hosts.start(node, argv, { as: "user", logFile: join(temp.path, `${node}-agent.log`) }));
  };
  const superuser = (): { username: string; password: string } => {
    const file = join(placeOf(nodes[0]), "data.pgherd", "secrets.json");
    return (JSON.parse(readFileSync(file, "utf8")) as { superuser: { username: string; password: string } })
      .superuser;
  };
  const login: Record<string, string> = {};
  const sql: HostCluster["sql"] = async (from, address, port, text) => {
    const variables = Object.entries(login).map(([name, value]) => `${name}=${value}`);
    const psql = [join(binDir, "psql"), "-XAtq", "-h", address, "-p", String(port), "-c", text];
    const result = await hosts.run(from, ["env", ...variables, ...psql], { timeoutMs: 20_000 });
    if (result.code !== 0) throw new Error(result.stderr.trim());
    return result.stdout.trim();
  };
  const remove = async (): Promise<void> => {
    await killProcessesUnder(temp.path);
    for (const each of started) await each.stop(100);
    await hosts.remove();
    await temp.remove();
  };
  try {
    startAgent(nodes[0]);
    await waitFor(
      () => {
        const { username, password } = superuser();
        Object.assign(login, {
          PGUSER: username,
          PGPASSWORD: password,
          PGDATABASE: "postgres",
          PGCONNECT_TIMEOUT: "5",
        });
        return true;
      },
      { timeoutMs: 60_000, what: "the passwords of the cluster" },
    );
    startAgent(nodes[1]);
    await waitFor(
      async () =>
        (await sql(
          elsewhere,
          hosts.four(nodes[0]),
          5432,
          "select count(*) from pg_stat_replication where state = 'streaming'",
        )) === "1",
      { timeoutMs: 90_000, what: "the second node streams", everyMs: 250 },
    );
  } catch (thrown) {
    await remove();
    throw thrown;
  }
  return {
    hosts,
    dir: temp.path,
    far: elsewhere,
    app: application,
    psql: join(binDir, "psql"),
    login,
    sql,
    leader: () =>
      waitFor(
        async () => {
          for (const node of nodes) {
            const answer = await sql(elsewhere, hosts.four(node), 5432, "select pg_is_in_recovery()").catch(
              () => "",
            );
            if (answer === "f") return node;
          }
          return null;
        },
        { timeoutMs: 30_000, what: "a primary answers" },
      ),
    async pgherd(...words) {
      const file = join(placeOf(nodes[0]), "node.yml");
      const argv = [process.execPath, program, ...words, "--config", file];
      const result = await hosts.run(nodes[0], argv, { timeoutMs: 60_000 });
      if (result.code !== 0) throw new Error(`${result.stdout}${result.stderr}`);
      return result.stdout;
    },
    async startRouter(host, keys, as = "root") {
      const place = placeOf(host);
      mkdirSync(place, { recursive: true });
      const file = join(place, "router.yml");
      const content = {
        cluster: "hosts",
        router: `router-${host}`,
        address: host,
        state_dir: join(place, "router"),
        dcs,
        ...keys,
      };
      writeFileSync(file, stringify(content), { mode: 0o600 });
      const argv = [process.execPath, program, "router", "--config", file];
      routersStarted += 1;
      const logFile = join(temp.path, `${host}-router-${routersStarted}.log`);
      const router = hosts.start(host, argv, { logFile, as });
      started.push(router);
      await Promise.race([
        waitFor(async () => (await hosts.run(host, ["ss", "-Hltn"])).stdout.includes(":9187"), {
          timeoutMs: 30_000,
          what: `the router of ${host} listens`,
        }),
        router.ended.then(() =>
          Promise.reject(new Error(`the router ended: ${router.output().slice(-2000)}`)),
        ),
      ]);
      return router;
    },
    remove,
  };
}
