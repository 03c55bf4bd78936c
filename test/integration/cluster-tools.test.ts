import { execFile } from "node:child_process";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, onTestFailed, test } from "vitest";
import { reporting, startCluster, type TestCluster } from "../support/cluster.ts";
import { freePorts } from "../support/ports.ts";
import { startProcess, waitFor, type TestProcess } from "../support/process.ts";

const run = promisify(execFile);

let cluster: TestCluster;
let secretWatch: SecretWatch;

beforeAll(async () => {
  cluster = await startCluster({ label: "tools", ttlSeconds: 3 });
  secretWatch = await watchCommandLines(cluster);
});
afterAll(async () => {
  secretWatch.stop();
  await cluster.remove();
});

/** The text of a file of the first node's state directory. */
async function tokenOf(): Promise<string> {
  const [node] = (await cluster.demo()).nodes;
  const text = readFileSync(join(node?.state_dir ?? "", "secrets.json"), "utf8");
  return (JSON.parse(text) as { readonly api: { readonly token: string } }).api.token;
}

/** Debian's HAProxy with Patroni's sample configuration. */
async function startHaproxy(primaryPort: number, standbyPort: number): Promise<TestProcess> {
  const { nodes } = await cluster.demo();
  const servers = nodes.map(
    (node) =>
      `    server ${node.name} 127.0.0.1:${node.port} maxconn 100 check port ${new URL(node.api).port}`,
  );
  const listen = (name: string, port: number, path: string): string[] => [
    `listen ${name}`,
    `    bind 127.0.0.1:${port}`,
    `    option httpchk OPTIONS ${path}`,
    "    http-check expect status 200",
    "    default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions",
    ...servers,
  ];
  const lines = [
    "global",
    "    maxconn 100",
    "defaults",
    "    mode tcp",
    "    retries 2",
    "    timeout client 30m",
    "    timeout connect 4s",
    "    timeout server 30m",
    "    timeout check 5s",
    ...listen("primary", primaryPort, "/primary"),
    ...listen("standbys", standbyPort, "/replica"),
  ];
  const file = join(cluster.dir, "haproxy.cfg");
  writeFileSync(file, `${lines.join("\n")}\n`);
  return startProcess(["haproxy", "-db", "-f", file], { cwd: cluster.dir });
}

/** A session of the demo's role through a port of this host; the caller ends it. */
async function session(port: number): Promise<pg.Client> {
  const { role } = await cluster.demo();
  const client = new pg.Client({
    host: "127.0.0.1",
    port,
    user: role.name,
    password: role.password,
    database: role.database,
    connectionTimeoutMillis: 2000,
    query_timeout: 5000,
  });
  client.on("error", () => undefined);
  await client.connect();
  return client;
}

/** Which server answers behind a port, and whether it is a standby. */
async function serverBehind(port: number): Promise<{ readonly port: number; readonly standby: boolean }> {
  const client = await session(port);
  try {
    const answer = await client.query<{ port: number; standby: boolean }>(
      "select inet_server_port() as port, pg_is_in_recovery() as standby",
    );
    const [row] = answer.rows;
    if (row === undefined) throw new Error("no row");
    return row;
  } finally {
    await client.end().catch(() => undefined);
  }
}

const portOf = async (name: string): Promise<number> =>
  (await cluster.demo()).nodes.find((node) => node.name === name)?.port ?? 0;

describe("Debian's HAProxy with Patroni's sample checks", () => {
  test("leads writers to the primary, cuts them when it moves, and leads them to the new one", async () => {
    await reporting(cluster, async () => {
      const [primaryPort = 0, standbyPort = 0] = await freePorts(2);
      const haproxy = await startHaproxy(primaryPort, standbyPort);
      try {
        const before = await cluster.settled();
        const leads = { port: await portOf(before.primary), standby: false };
        await waitFor(async () => (await serverBehind(primaryPort)).port === leads.port, {
          timeoutMs: 20_000,
          what: "HAProxy leads to the primary",
        });
        await waitFor(async () => (await serverBehind(standbyPort)).standby, {
          timeoutMs: 20_000,
          what: "HAProxy leads readers to a standby",
        });
        const held = await session(primaryPort);
        const cut = new Promise<void>((resolve) => held.once("end", resolve));
        const target = before.standbys[0] ?? "";
        await cluster.json("switchover", "--to", target, "--yes");
        const leadsNow = { port: await portOf(target), standby: false };
        await waitFor(
          async () => JSON.stringify(await serverBehind(primaryPort)) === JSON.stringify(leadsNow),
          { timeoutMs: 30_000, what: "HAProxy leads to the new primary" },
        );
        await cut;
        // HAProxy needs three failed checks to take a server out; until then it may be asked for reads.
        await waitFor(async () => (await serverBehind(standbyPort)).standby, {
          timeoutMs: 20_000,
          what: "readers are led to a standby",
        });
        expect((await cluster.settled()).primary).toBe(target);
      } finally {
        await haproxy.stop();
      }
    });
  });
});

describe("Debian's patronictl", () => {
  let config: string;
  beforeAll(async () => {
    const demo = await cluster.demo();
    const authentication = { username: "pgherd", password: await tokenOf() };
    config = join(cluster.dir, "patronictl.yml");
    const hosts = demo.etcd.members.map((member) => new URL(member.endpoint).host).join(",");
    // JSON is YAML.
    const content = {
      scope: demo.cluster,
      namespace: "/service/",
      etcd3: { hosts },
      restapi: { authentication },
      ctl: { authentication },
    };
    writeFileSync(config, JSON.stringify(content), { mode: 0o600 });
  });

  const patronictl = async (...args: string[]): Promise<string> => {
    onTestFailed(() => void process.stderr.write(`patronictl ${args.join(" ")}\n`));
    const done = await run("patronictl", ["-c", config, ...args], {
      env: { ...process.env, LC_ALL: "C.UTF-8", HOME: cluster.dir },
      timeout: 60_000,
    });
    return done.stdout;
  };

  interface Row {
    readonly Member: string;
    readonly Host: string;
    readonly Role: string;
    readonly State: string;
    readonly TL: number;
    readonly "Lag in MB"?: number | string;
  }
  const list = async (): Promise<readonly Row[]> =>
    JSON.parse(await patronictl("list", "-f", "json")) as Row[];

  test("lists the members with the roles, states and timelines that they have", async () => {
    const { primary, standbys, timeline } = await cluster.settled();
    const rows = await list();
    expect(rows.map((row) => row.Member).sort()).toEqual([primary, ...standbys].sort());
    for (const row of rows) {
      expect(row).toMatchObject({
        TL: timeline,
        Host: `127.0.0.1:${await portOf(row.Member)}`,
      });
      // Whether a standby counts right now is for the durability tests.
      expect(row.Role).toMatch(row.Member === primary ? /^Leader$/ : /^(Replica|Sync Standby)$/);
      expect(row.State).toMatch(/^(running|streaming)$/);
      if (row.Member !== primary) expect(row["Lag in MB"]).toBe(0);
    }
    const table = await patronictl("list");
    expect(table).toMatch(/^\+ Cluster: demo /);
    expect(table).toMatch(new RegExp(`\\| ${primary} +\\| .* \\| Leader +\\| running`));
  });

  test("draws the topology and shows the settings", async () => {
    const { primary, standbys } = await cluster.settled();
    const topology = await patronictl("topology");
    expect(topology).toMatch(new RegExp(`\\| ${primary} +\\|`));
    for (const standby of standbys) expect(topology).toMatch(new RegExp(`\\| \\+ ${standby} +\\|`));
    expect(await patronictl("show-config")).toMatch(/^ttl: 3/m);
  });

  test("switches over, and its history tells of it", async () => {
    await reporting(cluster, async () => {
      const before = await cluster.settled();
      const target = before.standbys[1] ?? "";
      const said = await patronictl(
        ...["switchover", "demo", "--leader", before.primary, "--candidate", target, "--force"],
      );
      expect(said).toContain(`Successfully switched over to "${target}"`);
      const after = await cluster.settled();
      expect(after).toMatchObject({ primary: target, timeline: before.timeline + 1 });
      expect((await list()).find((row) => row.Role === "Leader")?.Member).toBe(target);
      const history = JSON.parse(await patronictl("history", "-f", "json")) as Record<string, unknown>[];
      expect(history.at(-1)).toMatchObject({ TL: before.timeline, "New Leader": target });
    });
  });

  test("is told why a switchover is refused", async () => {
    const { primary, standbys } = await cluster.settled();
    const said = await patronictl(
      ...["switchover", "demo", "--leader", standbys[0] ?? "", "--candidate", primary, "--force"],
    ).catch((error: unknown) => {
      const { stdout, stderr } = error as { stdout?: string; stderr?: string };
      return `${stdout ?? ""}${stderr ?? ""}`;
    });
    expect(said).toMatch(/is not the leader|does not match|leader/i);
    expect((await cluster.settled()).primary).toBe(primary);
  });
});

describe("who may change something", () => {
  const patch = async (authorization: string | null): Promise<Response> => {
    const [node] = (await cluster.demo()).nodes;
    return fetch(`${node?.api ?? ""}/config`, {
      method: "PATCH",
      headers: {
        "content-type": "application/json",
        ...(authorization !== null && { authorization }),
      },
      body: JSON.stringify({ member_slots_ttl: "31min" }),
      signal: AbortSignal.timeout(10_000),
    });
  };
  const basic = (user: string, password: string): string =>
    `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;

  test("is nobody without the token, on any path that writes", async () => {
    const [node] = (await cluster.demo()).nodes;
    const before = await (await fetch(`${node?.api ?? ""}/config`)).json();
    for (const wrong of [null, "Bearer wrong", basic("pgherd", "wrong"), basic("postgres", await tokenOf())])
      expect((await patch(wrong)).status).toBe(401);
    for (const path of ["switchover", "failover", "restart", "reload", "reinitialize"]) {
      const answer = await fetch(`${node?.api ?? ""}/${path}`, { method: "POST", body: "{}" });
      expect(answer.status, path).toBe(401);
      expect(answer.headers.get("www-authenticate"), path).toMatch(/Basic/);
    }
    expect(await (await fetch(`${node?.api ?? ""}/config`)).json()).toEqual(before);
  });

  test("is who has the token, as a bearer or as the password of HTTP Basic on this host", async () => {
    const token = await tokenOf();
    expect((await patch(`Bearer ${token}`)).status).toBe(200);
    expect((await patch(basic("pgherd", token))).status).toBe(200);
  });
});

describe("the secrets", () => {
  test("are in no log, no command line, no environment, no answer, and no file that others can read", async () => {
    await reporting(cluster, async () => {
      const demo = await cluster.demo();
      const [first] = demo.nodes;
      await cluster.addNode("db4"); // a copy is when passwords are handed to programs
      await cluster.settled();
      const secrets = secretsIn(readFileSync(join(first?.state_dir ?? "", "secrets.json"), "utf8"));
      expect(secrets.length).toBe(4);
      const holds = (text: string): boolean => secrets.some((secret) => text.includes(secret));
      expect(secretWatch.found()).toEqual([]);
      expect(secretWatch.looks()).toBeGreaterThan(20);

      const paths = [
        "/v1/status",
        "/v1/events?limit=1000",
        "/v1/decisions?limit=1000",
        "/patroni",
        "/cluster",
      ];
      for (const node of (await cluster.demo()).nodes)
        for (const path of [
          ...paths,
          "/config",
          "/history",
          "/metrics",
          "/v1/settings",
          "/v1/openapi.json",
        ]) {
          const answer = await fetch(`${node.api}${path}`);
          expect(holds(await answer.text()), `${node.name} ${path}`).toBe(false);
        }
      const status = await cluster.cli("status", "--json");
      expect(status.code).toBe(0);
      expect(holds(status.stdout + status.stderr)).toBe(false);

      const holding = filesBelow(cluster.dir).filter((file) => {
        if (/\/(app|etcd\d+|base|global|pg_wal)\//.test(file)) return false;
        return holds(readFileSync(file, "latin1"));
      });
      expect(holding.filter((file) => file.endsWith("/secrets.json"))).toHaveLength(4);
      const exposed = holding.filter((file) => {
        return file.endsWith(".log") || file.includes("/log/") || (statSync(file).mode & 0o077) !== 0;
      });
      expect(exposed).toEqual([]);
    });
  });
});

/** The four secrets of a secrets.json. */
function secretsIn(text: string): string[] {
  const values: string[] = [];
  JSON.parse(text, (key, value: unknown) => {
    if ((key === "password" || key === "token") && typeof value === "string") values.push(value);
    return value;
  });
  return values;
}

function filesBelow(dir: string): string[] {
  return readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) return filesBelow(path);
    return entry.isFile() ? [path] : [];
  });
}

interface SecretWatch {
  /** Command lines and environments in which a secret stood. */
  found(): readonly string[];
  looks(): number;
  stop(): void;
}

/** Looks again and again at what every process of this user shows of itself. */
async function watchCommandLines(watched: TestCluster): Promise<SecretWatch> {
  const [node] = (await watched.demo()).nodes;
  const secrets = secretsIn(readFileSync(join(node?.state_dir ?? "", "secrets.json"), "utf8"));
  const found = new Set<string>();
  let looks = 0;
  const timer = setInterval(() => {
    looks += 1;
    for (const pid of readdirSync("/proc").filter(
      (name) => /^\d+$/.test(name) && name !== String(process.pid),
    ))
      for (const file of ["cmdline", "environ"]) {
        try {
          const text = readFileSync(`/proc/${pid}/${file}`, "latin1");
          if (secrets.some((secret) => text.includes(secret)))
            found.add(`${pid} ${file}: ${text.slice(0, 60)}`);
        } catch {
          // it ended meanwhile, or is another user's
        }
      }
  }, 200);
  return { found: () => [...found], looks: () => looks, stop: () => clearInterval(timer) };
}
