import { execFile } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RouterSettings } from "../../src/config/router-config.ts";
import { decodeServerMessage } from "../../src/pgwire/decode.ts";
import { fromServer } from "../../src/pgwire/message-types.ts";
import { encodeSslRequest, encodeStartup } from "../../src/pgwire/startup.ts";
import { type Router, startRouter } from "../../src/router/router.ts";
import { systemClock } from "../../src/system/clock.ts";
import { systemRandom } from "../../src/system/random.ts";
import { systemTimers } from "../../src/system/timers.ts";
import type { FencingToken, NodeName, Timeline } from "../../src/values/names.ts";
import { type CertificateFiles, makeCertificates } from "../support/certificates.ts";
import { binDir, plainSettings, postgresSet, type TestPostgres } from "../support/postgres.ts";
import { RawClient } from "../support/raw-client.ts";
import { accessRule, HandFeed, routerListener } from "../support/router-front.ts";
import { routerSettings } from "../support/router-source.ts";

const run = promisify(execFile);
const set = postgresSet("rf");
const password = "open, sesame";

let postgres: TestPostgres;
let router: Router;
let files: Record<"server" | "alice" | "mallory", CertificateFiles>;
let settings: RouterSettings;
const feed = new HandFeed();
const log: { event: string; fields: Readonly<Record<string, unknown>> }[] = [];

/** psql through one of the listeners. */
async function psql(name: string, target: string, sql = "select current_user"): Promise<string> {
  const { stdout } = await run(
    `${binDir}/psql`,
    ["-XAtc", sql, `host=127.0.0.1 port=${port(name)} ${target}`],
    {
      env: { ...process.env, PGSSLROOTCERT: files.server.caFile, PGCONNECT_TIMEOUT: "10" },
      timeout: 30_000,
    },
  );
  return stdout.trim();
}

/** What psql says when it is not let in. */
async function refusal(name: string, target: string): Promise<string> {
  return psql(name, target).then(
    (said) => expect.fail(`psql came in and said ${said}`),
    (error: unknown) => (error as { stderr: string }).stderr,
  );
}

function port(name: string): number {
  const found = router.fronts.listeners.find((each) => each.name === name);
  if (found === undefined) throw new Error(`no listener ${name}`);
  return found.port;
}

function libpq(user: string, more = ""): string {
  return `dbname=postgres user=${user} password='${password}' ${more}`;
}

beforeAll(async () => {
  files = await makeCertificates(set.dir, ["server", "alice", "mallory"]);
  await run("chmod", ["600", ...Object.values(files).map(({ keyFile }) => keyFile)]);
  postgres = await set.primary("db1", {
    ...plainSettings,
    // Those whom the router lets in without a password must be let in without one by PostgreSQL too.
    hba: ["host all trusted,alice 127.0.0.1/32 trust", "host all all 127.0.0.1/32 md5"],
  });
  for (const user of ["alice", "trusted", "scram"])
    await postgres.sql(`create role ${user} login password '${password}'`);
  await postgres.sql(`set password_encryption = 'md5'; create role older login password '${password}'`);
  await postgres.sql("create database forbidden");
  feed.set({
    primary: {
      node: "db1" as NodeName,
      host: "127.0.0.1",
      port: postgres.port,
      token: 12 as FencingToken,
      timeline: 1 as Timeline,
    },
    standbys: [],
  });
  const tls = {
    mode: "allow" as const,
    certFile: files.server.certFile,
    keyFile: files.server.keyFile,
    clientCaFile: files.server.caFile,
  };
  settings = {
    ...routerSettings,
    stateDir: set.dir,
    backendTls: { mode: "disable", caFile: null },
    timeouts: { ...routerSettings.timeouts, startupMs: 3_000, holdMs: 3_000 },
    admin: { listen: "127.0.0.1", port: 0, users: [] },
    tls: { ...tls, mode: "disable" },
    listeners: [
      routerListener("plain"),
      routerListener("tls", { tls }),
      routerListener("only-tls", { tls: { ...tls, mode: "require", clientCaFile: null } }),
      routerListener("own-certificate", {
        tls: { ...tls, certFile: null, keyFile: null, clientCaFile: null },
      }),
      routerListener("proxied", { proxyProtocol: true, proxyFrom: ["127.0.0.1"] }),
    ],
    access: [
      accessRule({ databases: ["forbidden"], method: "reject" }),
      accessRule({ addresses: ["192.0.2.0/24"], users: ["trusted"], method: "trust" }),
      accessRule({ addresses: ["192.0.2.0/24"], method: "reject" }),
      accessRule({ users: ["alice"], tls: "required", method: "cert" }),
      accessRule({ users: ["older"], method: "md5" }),
      accessRule({ users: ["trusted"], method: "trust" }),
      accessRule({ databases: ["postgres", "forbidden2", "template1"] }),
    ],
  };
  router = await startRouter({
    settings: () => settings,
    feed,
    verifiers: {
      find: async (user) => {
        const name = user.replaceAll("'", "''");
        const [row] = await postgres.sql(`select rolpassword from pg_authid where rolname = '${name}'`);
        const stored = row?.["rolpassword"];
        return typeof stored === "string" ? stored : null;
      },
    },
    mockSecret: Buffer.from("of this test"),
    clock: systemClock,
    timers: systemTimers,
    random: systemRandom,
    log: (_, event, fields) => log.push({ event, fields: fields ?? {} }),
    onConsole: (client) => client.socket.destroy(),
    onGateAnswer: () => undefined,
  });
});
afterAll(async () => {
  await router.stop(0);
  await set.remove();
});

describe("psql comes in", () => {
  test("with SCRAM in clear", async () => {
    expect(await psql("plain", libpq("scram", "sslmode=disable"))).toBe("scram");
  });

  test("with SCRAM bound to the TLS channel, and the certificate checked", async () => {
    const strict = "sslmode=verify-full channel_binding=require sslcert=none sslkey=none";
    expect(await psql("tls", libpq("scram", strict))).toBe("scram");
  });

  test("with a certificate the router made itself, to which SCRAM is bound", async () => {
    expect(
      await psql(
        "own-certificate",
        libpq("scram", `sslmode=require channel_binding=require sslrootcert=${set.dir}/router.crt`),
      ),
    ).toBe("scram");
    const { stdout } = await run("openssl", ["x509", "-noout", "-text", "-in", `${set.dir}/router.crt`]);
    expect(stdout).toContain("prime256v1");
    expect(stdout).toContain("IP Address:10.0.0.20");
    await run("openssl", ["verify", "-CAfile", `${set.dir}/router.crt`, `${set.dir}/router.crt`]);
  });

  test("with the md5 password of before", async () => {
    expect(await psql("plain", libpq("older", "sslmode=disable"))).toBe("older");
  });

  test("without a password, by a rule", async () => {
    expect(await psql("plain", "dbname=postgres user=trusted sslmode=disable")).toBe("trusted");
  });

  test("with a client certificate made out to the user", async () => {
    const { certFile, keyFile } = files.alice;
    const target = `dbname=postgres user=alice sslmode=require sslcert=${certFile} sslkey=${keyFile}`;
    expect(await psql("tls", target)).toBe("alice");
  });

  test("with a password that was changed a moment ago", async () => {
    await postgres.sql("create role changed login password 'before'");
    const target = (now: string): string => `dbname=postgres user=changed password=${now} sslmode=disable`;
    for (const [before, after] of [
      ["before", "one"],
      ["one", "two"],
      ["two", "three"],
    ] as const) {
      expect(await psql("plain", target(before))).toBe("changed");
      await postgres.sql(`alter role changed password '${after}'`);
      expect(await psql("plain", target(after))).toBe("changed");
      expect(await refusal("plain", target(before))).toContain("password authentication failed");
    }
  });

  test("fifty at once", async () => {
    const all = await Promise.all(
      Array.from({ length: 50 }, () => psql("tls", libpq("scram", "sslmode=require"))),
    );
    expect(new Set(all)).toEqual(new Set(["scram"]));
  });
});

describe("psql is refused", () => {
  test.each([
    ["a wrong password", "plain", "scram", "dbname=postgres user=scram password=wrong"],
    ["an unknown user", "plain", "nobody", "dbname=postgres user=nobody password=wrong"],
    ["a wrong md5 password", "plain", "older", "dbname=postgres user=older password=wrong"],
  ])("%s, in PostgreSQL's words", async (_, name, user, target) => {
    expect(await refusal(name, `${target} sslmode=disable`)).toContain(
      `FATAL:  password authentication failed for user "${user}"`,
    );
  });

  test("by a rule, with what it looked at", async () => {
    expect(
      await refusal("plain", `dbname=forbidden user=scram password='${password}' sslmode=disable`),
    ).toContain('access rule 1 rejects host "127.0.0.1", user "scram", database "forbidden", no encryption');
  });

  test("because no rule names it", async () => {
    const target = `dbname=other user=scram password='${password}' sslmode=require`;
    expect(await refusal("tls", target)).toContain(
      'no access rule for host "127.0.0.1", user "scram", database "other", TLS encryption',
    );
  });

  test("by a name that PostgreSQL would have cut to one it may not use", async () => {
    const name = "d".repeat(63);
    await postgres.sql(`create database ${name}`);
    const before = settings;
    settings = { ...settings, access: [accessRule({ databases: [name], method: "reject" }), accessRule({})] };
    try {
      await router.reload();
      expect(await refusal("plain", `dbname=${name} user=scram password='${password}'`)).toContain(
        "access rule 1 rejects",
      );
      expect(await refusal("plain", `dbname=${name}x user=scram password='${password}'`)).toContain(
        "longer than 63 bytes",
      );
    } finally {
      settings = before;
      await router.reload();
    }
  });

  test("in clear where only TLS is taken", async () => {
    expect(await refusal("only-tls", libpq("scram", "sslmode=disable"))).toContain("encrypted connections");
    expect(await psql("only-tls", libpq("scram", "sslmode=prefer"))).toBe("scram");
  });

  test("with another user's certificate, and with none", async () => {
    const { certFile, keyFile } = files.mallory;
    expect(
      await refusal(
        "tls",
        `dbname=postgres user=alice sslmode=require sslcert=${certFile} sslkey=${keyFile}`,
      ),
    ).toContain('certificate authentication failed for user "alice"');
    expect(
      await refusal("tls", "dbname=postgres user=alice sslmode=require sslcert=none sslkey=none"),
    ).toContain('certificate authentication failed for user "alice"');
  });

  test("with a certificate of an authority nobody trusts", async () => {
    const other = (await makeCertificates(await mkdtemp(join(set.dir, "other-")), ["alice"])).alice;
    await run("chmod", ["600", other.keyFile]);
    expect(
      await refusal(
        "tls",
        `dbname=postgres user=alice sslmode=require sslcert=${other.certFile} sslkey=${other.keyFile}`,
      ),
    ).toContain("the client certificate is not trusted");
  });
});

describe("TLS without SSLRequest", () => {
  test("is answered when it names the protocol", async () => {
    const socket = await direct(["postgresql"]);
    expect(socket.alpnProtocol).toBe("postgresql");
    const client = new RawClient(socket);
    client.send(
      encodeStartup([
        ["user", "trusted"],
        ["database", "postgres"],
      ]),
    );
    const types: number[] = [];
    while (types.at(-1) !== fromServer.readyForQuery) types.push((await client.message()).type);
    expect(types).toContain(fromServer.backendKeyData);
    socket.destroy();
  });

  test("is refused when it names none, or another", async () => {
    const client = new RawClient(await direct([]));
    expect(decodeServerMessage((await client.message()).body)).toMatchObject({ code: "08P01" });
    await client.closed();
    await expect(direct(["http/1.1"])).rejects.toThrow(/no application protocol/i);
  });

  async function direct(protocols: string[]): Promise<TLSSocket> {
    const socket = connectTls({
      host: "127.0.0.1",
      port: port("tls"),
      ca: readFileSync(files.server.caFile),
      servername: "localhost",
      ALPNProtocols: protocols,
    });
    await once(socket, "secureConnect");
    return socket;
  }
});

describe("what hostile clients send", () => {
  test("bytes before TLS are not believed", async () => {
    const client = await RawClient.connect(port("tls"));
    client.send(encodeSslRequest(), encodeStartup([["user", "trusted"]]));
    expect(decodeServerMessage((await client.message()).body)).toMatchObject({ code: "08P01" });
    await client.closed();
  });

  test.each([
    ["garbage", Buffer.from("GET / HTTP/1.0\r\n\r\n")],
    ["an oversized start-up", Buffer.from([0, 0x7f, 0xff, 0xff, 0, 3, 0, 0])],
    ["a start-up without its end", encodeStartup([["user", "scram"]]).fill(0x61, 8)],
  ])("%s ends that connection alone", async (_, bytes) => {
    const client = await RawClient.connect(port("tls"));
    client.send(bytes);
    expect((await client.message()).type).toBe(fromServer.error);
    await client.closed();
    expect(await psql("tls", libpq("scram"))).toBe("scram");
  });

  test("a client that is slow, before and within TLS, is dropped while others come in", async () => {
    const silent = await RawClient.connect(port("tls"));
    const within = await RawClient.connect(port("tls"));
    within.send(encodeSslRequest());
    expect((await within.bytes(1)).toString()).toBe("S");
    expect(await psql("tls", libpq("scram"))).toBe("scram");
    await Promise.all([silent.closed(), within.closed()]);
  });
});

describe("PROXY headers", () => {
  const version2 = (address: readonly number[], tlv: Buffer): Buffer => {
    const body = Buffer.concat([Buffer.from([...address, 10, 0, 0, 1, 0x12, 0x34, 0x13, 0x88]), tlv]);
    const length = Buffer.alloc(2);
    length.writeUInt16BE(body.length);
    return Buffer.concat([
      Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1"),
      Buffer.from([0x21, 0x11]),
      length,
      body,
    ]);
  };

  test.each([
    ["version 1", Buffer.from("PROXY TCP4 192.0.2.9 10.0.0.1 4660 5000\r\n")],
    ["version 2", version2([192, 0, 2, 9], Buffer.alloc(0))],
    ["version 2 with TLVs", version2([192, 0, 2, 9], Buffer.from([4, 0, 3, 1, 2, 3]))],
  ])("%s names the client to the rules", async (_, header) => {
    const speak = async (user: string): Promise<string> => {
      const client = await RawClient.connect(port("proxied"));
      client.send(
        header,
        encodeStartup([
          ["user", user],
          ["database", "postgres"],
        ]),
      );
      const { type, body } = await client.message();
      client.socket.destroy();
      return type === fromServer.error ? decodeServerMessage(body).message : "in";
    };
    expect(await speak("trusted")).toBe("in");
    expect(await speak("scram")).toContain('access rule 3 rejects host "192.0.2.9"');
  });
});
