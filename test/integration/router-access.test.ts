import { execFile } from "node:child_process";
import { chmod } from "node:fs/promises";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { AccessRule } from "../../src/config/router-config.ts";
import { encodeStartup } from "../../src/pgwire/startup.ts";
import type { FencingToken, NodeName, Timeline } from "../../src/values/names.ts";
import { makeCertificates } from "../support/certificates.ts";
import { binDir, plainSettings, postgresSet, secrets, type TestPostgres } from "../support/postgres.ts";
import { waitFor } from "../support/process.ts";
import { RawClient, startup } from "../support/raw-client.ts";
import { accessRule, routerListener, type TestFronts, testFronts } from "../support/router-front.ts";

// Access rules on the path `stream`, where PostgreSQL and the client talk to each other and the router only listens in.

const run = promisify(execFile);
const set = postgresSet("ra");
const password = secrets.superuser.password.reveal();
const postgresUser = { user: "postgres" };
const opened: TestFronts[] = [];

let encrypted: TestPostgres;
let plain: TestPostgres;

beforeAll(async () => {
  const { server } = await makeCertificates(set.dir, ["server"] as const);
  await chmod(server.keyFile, 0o600);
  const hba = ["host all all all scram-sha-256", "host replication all all scram-sha-256"];
  const tls = { ssl: "on", ssl_cert_file: server.certFile, ssl_key_file: server.keyFile };
  encrypted = await set.primary("db1", {
    ...plainSettings,
    parameters: { ...plainSettings.parameters, ...tls },
    hba,
  });
  await encrypted.sql("create database shop");
  await encrypted.sql("create role app login password 'app'");
  plain = await set.primary("db2", { ...plainSettings, hba });
});
afterEach(async () => {
  for (const { fronts } of opened.splice(0)) await fronts.close();
});
afterAll(() => set.remove());

/** A listener of path stream before a server. */
async function stream(
  server: TestPostgres,
  access: readonly AccessRule[],
  listener: Parameters<typeof routerListener>[1],
): Promise<{ port: number; made: TestFronts }> {
  const tls = { mode: "allow", certFile: null, keyFile: null, clientCaFile: null } as const;
  const made = await testFronts({
    settings: { access, listeners: [routerListener("s", { path: "stream", tls, ...listener })] },
  });
  opened.push(made);
  made.feed.set({
    primary: {
      node: server.node as NodeName,
      host: "127.0.0.1",
      port: server.port,
      token: 12 as FencingToken,
      timeline: 1 as Timeline,
    },
    standbys: [],
    highestToken: 12 as FencingToken,
  });
  return { port: made.port("s"), made };
}

const noTls = { tls: { mode: "disable", certFile: null, keyFile: null, clientCaFile: null } } as const;

/** What psql says, its errors too. */
async function psql(port: number, more: string, sql = "select current_user, current_database()") {
  const target = `host=127.0.0.1 port=${port} ${more}`;
  const result = run(`${binDir}/psql`, ["-XAtc", sql, target], {
    env: { ...process.env, PGPASSWORD: password, PGCONNECT_TIMEOUT: "10" },
    timeout: 60_000,
  });
  return result.then(
    ({ stdout }) => stdout.trim(),
    (error: unknown) => (error as { stderr: string }).stderr.trim(),
  );
}

describe("where the router declines TLS", () => {
  const rules = [
    accessRule({ databases: ["shop"], users: ["postgres"] }),
    accessRule({ databases: ["replication"], users: ["app"] }),
    accessRule({ method: "reject" }),
  ];

  test("the start-up message is held against the rules before PostgreSQL sees it", async () => {
    const { port, made } = await stream(encrypted, rules, noTls);
    expect(await psql(port, "user=postgres dbname=shop")).toBe("postgres|shop");
    expect(await psql(port, "user=postgres dbname=shop gssencmode=prefer sslmode=prefer")).toBe(
      "postgres|shop",
    );
    expect(await psql(port, "user=postgres dbname=postgres")).toContain(
      'access rule 3 rejects host "127.0.0.1", user "postgres", database "postgres", no encryption',
    );
    expect(await psql(port, "user=app dbname=shop")).toContain("access rule 3 rejects");
    expect(await psql(port, "user=postgres dbname=shop sslmode=require")).toContain("does not support SSL");
    expect(made.counters("s").refused).toBe(2);
    expect(made.limits.clients).toBe(0);
  });

  test("replication is a database of its own", async () => {
    const { port } = await stream(encrypted, rules, noTls);
    const receiver = (user: string) =>
      psql(port, `user=${user} dbname=shop replication=true`, "SHOW timeline");
    expect(await receiver("postgres")).toContain("no access rule for replication connection");
    // It comes as far as its password.
    expect(await receiver("app")).toContain("password authentication failed");
    expect(
      await psql(port, "user=postgres dbname=postgres replication=database", "IDENTIFY_SYSTEM"),
    ).toContain("access rule 3 rejects");
  });

  test("no way of putting it lets a client in elsewhere", async () => {
    const { port } = await stream(encrypted, rules, noTls);
    const outcome = async (packet: Buffer): Promise<string | null> => {
      const client = await RawClient.connect(port);
      // However it is cut.
      for (const byte of packet) client.send(Buffer.from([byte]));
      const { type, body } = await client.message();
      client.socket.destroy();
      return type === 0x52 ? null : body.toString("latin1");
    };
    const twice = encodeStartup([
      ["user", "postgres"],
      ["database", "shop"],
      ["database", "postgres"],
    ]);
    expect(await outcome(startup("postgres", { database: "shop" }))).toBeNull();
    expect(await outcome(twice)).toContain("access rule 3 rejects");
    expect(await outcome(startup("postgres"))).toContain("access rule 3 rejects");
    expect(await outcome(startup("postgres", { database: "shop", replication: "1" }))).toContain(
      "no access rule",
    );
  });

  test("TLS without asking is refused", async () => {
    const { port } = await stream(encrypted, rules, noTls);
    const client = await RawClient.connect(port);
    client.send(Buffer.from([0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0]));
    await client.closed();
  });
});

describe("where TLS passes through", () => {
  const everything = { databases: ["all", "replication"] };

  test("a rule for TLS is kept, whether the server has it or not", async () => {
    const rules = [accessRule({ ...everything, tls: "required" })];
    const { port } = await stream(encrypted, rules, {});
    const through = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    expect(await psql(port, "user=postgres dbname=shop sslmode=require", through)).toBe("t");
    expect(await psql(port, "user=postgres dbname=shop sslmode=disable")).toContain(
      'no access rule for host "127.0.0.1", user "postgres", database "shop", no encryption',
    );
    const without = await stream(plain, rules, {});
    expect(await psql(without.port, "user=postgres dbname=postgres sslmode=prefer")).toContain(
      "no access rule",
    );
    const free = await stream(plain, [accessRule(everything)], {});
    expect(await psql(free.port, "user=postgres dbname=postgres sslmode=prefer")).toBe("postgres|postgres");
  });

  test("the router's own tls.mode require is kept without any rule", async () => {
    const { port } = await stream(encrypted, [], { tls: { ...noTls.tls, mode: "require" } });
    expect(await psql(port, "user=postgres dbname=shop sslmode=require")).toBe("postgres|shop");
    expect(await psql(port, "user=postgres dbname=shop sslmode=disable")).toContain("takes encrypted");
  });

  test("the address is that of the client behind a proxy, whose header PostgreSQL does not see", async () => {
    const rules = [accessRule({ ...everything, addresses: ["192.0.2.0/24"] })];
    const proxied = { proxyProtocol: true, proxyFrom: ["127.0.0.1"] };
    const { port } = await stream(encrypted, rules, proxied);
    const from = async (address: string, start: Buffer): Promise<number> => {
      const client = await RawClient.connect(port);
      client.send(Buffer.from(`PROXY TCP4 ${address} 10.0.0.1 4000 5000\r\n`), start);
      const [first = 0] = await client.bytes(1);
      client.socket.destroy();
      return first;
    };
    const [request, error] = ["R".charCodeAt(0), "E".charCodeAt(0)];
    expect(await from("192.0.2.7", startup(postgresUser.user))).toBe(request);
    expect(await from("198.51.100.7", startup(postgresUser.user))).toBe(error);
    const ssl = Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]);
    expect(await from("192.0.2.7", ssl)).toBe("S".charCodeAt(0));
    expect(await from("198.51.100.7", ssl)).toBe(error);
    const free = await stream(encrypted, [], proxied);
    const client = await RawClient.connect(free.port);
    client.send(Buffer.from("PROXY UNKNOWN\r\n"), startup(postgresUser.user));
    expect((await client.bytes(1))[0]).toBe(request);
    client.socket.destroy();
  });
});

test("who says nothing is let go, and keeps no place", async () => {
  const { port, made } = await stream(encrypted, [accessRule({})], noTls);
  const client = await RawClient.connect(port);
  client.send(Buffer.from([0, 0]));
  await client.closed();
  await waitFor(() => made.limits.clients === 0, { what: "its place to come free", timeoutMs: 10_000 });
});
