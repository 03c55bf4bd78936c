import { createHash, createHmac, randomBytes } from "node:crypto";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import {
  accessRule,
  RawClient,
  type TestFrontOptions,
  type TestFronts,
  testFronts,
} from "../../test/support/router-front.ts";
import { routerSettings } from "../../test/support/router-source.ts";
import { decodeServerMessage } from "../pgwire/decode.ts";
import { passwordMessage, saslInitialResponse, saslResponse, type ServerMessage } from "../pgwire/encode.ts";
import { md5Answer } from "../pgwire/md5.ts";
import { fromServer } from "../pgwire/message-types.ts";
import { scramKeys } from "../pgwire/scram.ts";
import { encodeCancel, encodeSslRequest, encodeStartup } from "../pgwire/startup.ts";
import { scramVerifier } from "../postgres/scram-verifier.ts";
import { systemTimers } from "../system/timers.ts";
import { Secret } from "../values/secret.ts";

const opened: TestFronts[] = [];
const clients: RawClient[] = [];
afterEach(async () => {
  for (const client of clients.splice(0)) client.socket.destroy();
  for (const { fronts } of opened.splice(0)) await fronts.close();
});

const secret = new Secret("a pass word");
/** As PostgreSQL stores the password of an md5 user. */
const md5Stored = `md5${createHash("md5").update(`${secret.reveal()}old`).digest("hex")}`;
const passwords = new Map([
  ["app", scramVerifier(secret)],
  ["operator", scramVerifier(secret)],
  ["old", md5Stored],
]);
const everybody = accessRule({ method: "trust" });

async function front(options: TestFrontOptions = {}): Promise<TestFronts> {
  const made = await testFronts({ passwords, ...options });
  opened.push(made);
  return made;
}

async function connected(made: TestFronts, listener = "primary"): Promise<RawClient> {
  const client = await RawClient.connect(made.port(listener));
  clients.push(client);
  return client;
}

function startup(user: string, more: Readonly<Record<string, string>> = {}): Buffer {
  return encodeStartup([["user", user], ...Object.entries(more)]);
}

function pause(): Promise<void> {
  return systemTimers.sleep(5);
}

/** What the client is told in the end: the error, or null when it is in. */
async function outcome(client: RawClient): Promise<ServerMessage | null> {
  for (;;) {
    const { type, body } = await client.message();
    if (type === fromServer.readyForQuery) return null;
    if (type === fromServer.error) return decodeServerMessage(body);
  }
}

/** The client's end of SCRAM, written out here so that the two ends are not one implementation. */
async function scram(client: RawClient, password: Secret): Promise<ServerMessage | null> {
  const offer = await client.message();
  expect(offer.body.toString("latin1", 4)).toBe("SCRAM-SHA-256\0\0");
  const nonce = randomBytes(18).toString("base64");
  client.send(saslInitialResponse("SCRAM-SHA-256", `n,,n=,r=${nonce}`));
  const first = (await client.message()).body.toString("latin1", 4);
  const [, joined = "", salt = "", rounds = ""] = /^r=(.*),s=(.*),i=(.*)$/.exec(first) ?? [];
  const { clientKey } = scramKeys(password, Buffer.from(salt, "base64"), Number(rounds));
  const storedKey = createHash("sha256").update(clientKey).digest();
  const final = `c=biws,r=${joined}`;
  const signed = createHmac("sha256", storedKey).update(`n=,r=${nonce},${first},${final}`).digest();
  const proof = Buffer.from(clientKey.map((byte, index) => byte ^ (signed[index] ?? 0)));
  client.send(saslResponse(`${final},p=${proof.toString("base64")}`));
  return outcome(client);
}

describe("start-up", () => {
  test("a client that a rule lets in without a proof is handed over with what it said", async () => {
    const made = await front({ settings: { access: [everybody] } });
    const client = await connected(made);
    client.send(startup("app", { database: "shop", application_name: "web", TimeZone: "UTC" }));
    expect(await outcome(client)).toBeNull();
    const [admitted] = made.clients;
    expect(admitted).toMatchObject({
      user: "app",
      database: "shop",
      protocolMinor: 0,
      replication: false,
      address: "127.0.0.1",
      port: client.socket.localPort,
      credentials: { kind: "none" },
    });
    expect([...(admitted?.parameters ?? [])]).toEqual([
      ["user", "app"],
      ["database", "shop"],
      ["application_name", "web"],
      ["TimeZone", "UTC"],
    ]);
    expect(admitted?.cancelKey.secret).toHaveLength(4);
  });

  test("the database is the user's when the client names none", async () => {
    const made = await front({ settings: { access: [everybody] } });
    const client = await connected(made);
    client.send(startup("app"));
    await outcome(client);
    expect(made.clients[0]?.parameters.get("database")).toBe("app");
  });

  test("any cut of the first packets gives the same", async () => {
    const made = await front({ settings: { access: [everybody] } });
    const bytes = Buffer.concat([encodeSslRequest(), startup("app", { database: "shop" })]);
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 7 }),
        fc.integer({ min: 9, max: bytes.length }),
        async (a, b) => {
          const client = await connected(made);
          client.send(bytes.subarray(0, a));
          await systemTimers.sleep(0);
          client.send(bytes.subarray(a, 8));
          expect((await client.bytes(1)).toString()).toBe("N");
          client.send(bytes.subarray(8, b));
          await systemTimers.sleep(0);
          client.send(bytes.subarray(b));
          expect(await outcome(client)).toBeNull();
          client.socket.destroy();
        },
      ),
      { numRuns: 25 },
    );
  });

  test("bytes behind the login wait for the session", async () => {
    const made = await front({
      settings: { access: [everybody] },
      more: { onClient: (client) => void kept.push(client) },
    });
    const kept: { socket: { onBytes: (buffer: Buffer, length: number) => void; resume: () => void } }[] = [];
    const client = await connected(made);
    client.send(startup("app"), Buffer.from("Q and more"));
    while (kept.length === 0) await pause();
    const text = await new Promise<string>((resolve) => {
      const [{ socket } = kept[0]!] = kept;
      socket.onBytes = (buffer, length) => resolve(buffer.toString("latin1", 0, length));
      socket.resume();
    });
    expect(text).toBe("Q and more");
  });

  test("a newer protocol is answered with what is spoken", async () => {
    const made = await front({ settings: { access: [everybody] } });
    const client = await connected(made);
    client.send(
      encodeStartup(
        [
          ["user", "app"],
          ["_pq_.wonder", "1"],
        ],
        9999,
      ),
    );
    const { type, body } = await client.message();
    expect(type).toBe(fromServer.negotiateProtocolVersion);
    expect(body.readUInt32BE(0)).toBe((3 << 16) | 2);
    expect(await outcome(client)).toBeNull();
    expect(made.clients[0]?.protocolMinor).toBe(2);
    expect(made.clients[0]?.cancelKey.secret).toHaveLength(32);
  });

  test.each([
    [
      "another major version",
      () => Buffer.from([0, 0, 0, 8, 0, 2, 0, 0]),
      "0A000",
      "unsupported frontend protocol 2.0",
    ],
    ["no user", () => encodeStartup([["database", "shop"]]), "28000", "no PostgreSQL user name"],
    ["a user that PostgreSQL would cut", () => startup("a".repeat(64)), "28000", "longer than 63 bytes"],
    [
      "a database that PostgreSQL would cut",
      () => startup("app", { database: "ä".repeat(32) }),
      "3D000",
      "longer than 63 bytes",
    ],
    ["a replication nobody knows", () => startup("app", { replication: "maybe" }), "22023", "replication"],
    ["a length that lies", () => Buffer.from([0x7f, 0xff, 0xff, 0xff]), "08P01", "a length of"],
    [
      "an oversized packet",
      () => Buffer.concat([Buffer.from([0, 0, 0x27, 0x11]), Buffer.alloc(64)]),
      "08P01",
      "10001",
    ],
    ["garbage", () => Buffer.from("GET / HTTP/1.1\r\n\r\n"), "08P01", "a length of"],
    ["TLS where there is none", () => Buffer.from([0x16, 3, 1, 0, 200]), "28000", "has no TLS"],
  ])("refuses %s", async (_, bytes, code, message) => {
    const made = await front({ settings: { access: [everybody] } });
    const client = await connected(made);
    client.send(bytes());
    const said = await outcome(client);
    expect(said).toMatchObject({ severity: "FATAL", code });
    expect(said?.message).toContain(message);
    await client.closed();
    while (made.limits.starting > 0) await pause();
    expect(made.counters("primary")).toMatchObject({ accepted: 1, refused: 1 });
  });

  test("drops bytes that came together with the request for TLS", async () => {
    const made = await front({ settings: { access: [everybody] } });
    const client = await connected(made);
    client.send(encodeSslRequest(), startup("app"));
    expect(await outcome(client)).toMatchObject({ code: "08P01" });
    expect(made.clients).toHaveLength(0);
  });

  test("whoever is slow is dropped, at every step", async () => {
    const slow = { ...routerSettings.timeouts, startupMs: 60 };
    const made = await front({ settings: { timeouts: slow } });
    const silent = await connected(made);
    const half = await connected(made);
    half.send(startup("app").subarray(0, 10));
    const dripping = await connected(made);
    const drip = async (): Promise<void> => {
      while (!dripping.socket.destroyed) {
        dripping.send(Buffer.from([0]));
        await pause();
      }
    };
    void drip();
    const unproven = await connected(made);
    unproven.send(startup("app"));
    await Promise.all([silent, half, dripping, unproven].map((client) => client.closed()));
    while (made.limits.starting > 0) await pause();
    expect(made.clients).toHaveLength(0);
  });

  test("only so many are in their start-up at once: others wait, and who says nothing does not count", async () => {
    const limits = { ...routerSettings.limits, starting: 2 };
    const made = await front({ settings: { limits } });
    const silent = [await connected(made), await connected(made), await connected(made)];
    const [first, second] = [await connected(made), await connected(made)];
    for (const client of [first, second]) {
      client.send(startup("app"));
      await client.message();
    }
    expect(made.limits.starting).toBe(2);
    const third = await connected(made);
    third.send(startup("app"));
    await systemTimers.sleep(30);
    expect(third.socket.bytesRead).toBe(0);
    first.socket.destroy();
    expect(await scram(third, secret)).toBeNull();
    for (const client of silent) client.socket.destroy();
  });
});

describe("proof", () => {
  test("SCRAM yields the keys that log in to PostgreSQL", async () => {
    const made = await front();
    const client = await connected(made);
    client.send(startup("app"));
    expect(await scram(client, secret)).toBeNull();
    const [, iterations = "", salt = ""] = /\$(\d+):([^$]+)\$/.exec(passwords.get("app") ?? "") ?? [];
    const keys = scramKeys(secret, Buffer.from(salt, "base64"), Number(iterations));
    expect(made.clients[0]?.credentials).toEqual({ kind: "scram", ...keys });
  });

  test.each([
    ["a wrong password", "app", "wrong password"],
    ["an unknown user", "nobody", "no such user, or no password"],
    ["an md5 password where SCRAM is asked for", "old", "the stored password is of another kind"],
  ])("%s is told no more than any other", async (_, user, why) => {
    const made = await front();
    const client = await connected(made);
    client.send(startup(user));
    expect(await scram(client, new Secret("guess"))).toEqual({
      severity: "FATAL",
      code: "28P01",
      message: `password authentication failed for user "${user}"`,
    });
    expect(made.log).toMatchObject([{ event: "client.refused", fields: { why } }]);
    expect(made.clients).toHaveLength(0);
  });

  test("md5, by a rule that allows it, yields the stored hash", async () => {
    const made = await front({ settings: { access: [{ ...everybody, method: "md5" }] } });
    const client = await connected(made);
    client.send(startup("old"));
    const { body } = await client.message();
    expect(body.readUInt32BE(0)).toBe(5);
    client.send(passwordMessage(md5Answer(md5Stored, body.subarray(4))));
    expect(await outcome(client)).toBeNull();
    expect(made.clients[0]?.credentials).toEqual({ kind: "md5", stored: md5Stored });
  });

  test("a rule that says md5 lets those with a SCRAM password use it", async () => {
    const made = await front({ settings: { access: [{ ...everybody, method: "md5" }] } });
    const client = await connected(made);
    client.send(startup("app"));
    expect(await scram(client, secret)).toBeNull();
  });

  test("when nobody can say what the password is, the client may try again", async () => {
    const made = await front({ more: { verifiers: { find: () => Promise.reject(new Error("no agent")) } } });
    const client = await connected(made);
    client.send(startup("app"));
    expect(await outcome(client)).toMatchObject({ code: "57P03" });
  });
});

describe("the console", () => {
  test("is a database of its own, for its users, by password whatever the rules say", async () => {
    const made = await front({ settings: { access: [everybody] } });
    const client = await connected(made);
    client.send(startup("operator", { database: "pgherd" }));
    expect(await scram(client, secret)).toBeNull();
    expect(made.consoles).toHaveLength(1);
    const other = await connected(made);
    other.send(startup("app", { database: "pgherd" }));
    expect(await outcome(other)).toMatchObject({ code: "28000" });
    expect(made.clients).toHaveLength(0);
  });

  test("has a port of its own", async () => {
    const made = await front();
    const client = await RawClient.connect(made.fronts.admin.port);
    clients.push(client);
    client.send(startup("operator", { database: "whatever" }));
    expect(await scram(client, secret)).toBeNull();
    expect(made.consoles).toHaveLength(1);
  });
});

describe("cancel requests", () => {
  test("reach the session whose key they show, and are answered by the end of the connection", async () => {
    const made = await front({ settings: { access: [everybody] } });
    const client = await connected(made);
    client.send(startup("app"));
    await outcome(client);
    const { pid, secret: key } = made.clients[0]!.cancelKey;
    for (const wrong of [encodeCancel(pid, Buffer.alloc(4)), encodeCancel(pid + 1, key)]) {
      const request = await connected(made);
      request.send(wrong);
      await request.closed();
    }
    expect(made.cancelled).toEqual([]);
    const request = await connected(made);
    request.send(encodeCancel(pid, key));
    await request.closed();
    expect(made.cancelled).toEqual([made.clients[0]!.id]);
  });
});

describe("limits", () => {
  test("a client too many is told the numbers, and its place comes free with the session before it", async () => {
    const limits = { ...routerSettings.limits, perUser: 1 };
    const made = await front({ settings: { access: [everybody], limits } });
    const first = await connected(made);
    first.send(startup("app"));
    await outcome(first);
    const second = await connected(made);
    second.send(startup("app"));
    expect(await outcome(second)).toMatchObject({
      code: "53300",
      message: 'too many connections for role "app"',
      detail: "1 of 1 are in use.",
    });
    first.socket.destroy();
    while (made.limits.clients > 0) await pause();
    const third = await connected(made);
    third.send(startup("app"));
    expect(await outcome(third)).toBeNull();
  });
});

describe("PROXY headers", () => {
  const believed = { proxyProtocol: true, proxyFrom: ["127.0.0.0/8"] };

  test("name the client to the rules and to the session", async () => {
    const access = [{ ...everybody, addresses: ["192.0.2.0/24"] }];
    const made = await front({ listener: believed, settings: { access } });
    const client = await connected(made);
    client.send(Buffer.from("PROXY TCP4 192.0.2.7 10.0.0.1 4711 5000\r\n"), startup("app"));
    expect(await outcome(client)).toBeNull();
    expect(made.clients[0]).toMatchObject({ address: "192.0.2.7", port: 4711 });
    const outside = await connected(made);
    outside.send(Buffer.from("PROXY TCP4 198.51.100.1 10.0.0.1 4711 5000\r\n"), startup("app"));
    expect(await outcome(outside)).toMatchObject({
      code: "28000",
      message: 'no access rule for host "198.51.100.1", user "app", database "app", no encryption',
    });
  });

  test("are garbage from anybody else, and needed from those who are to send them", async () => {
    const stranger = await front({ listener: { proxyProtocol: true, proxyFrom: ["10.0.0.0/8"] } });
    const client = await connected(stranger);
    client.send(Buffer.from("PROXY TCP4 192.0.2.7 10.0.0.1 4711 5000\r\n"), startup("app"));
    expect(await outcome(client)).toMatchObject({ code: "08P01" });
    const made = await front({ listener: believed, settings: { access: [everybody] } });
    const without = await connected(made);
    without.send(startup("app"));
    expect(await outcome(without)).toMatchObject({ code: "08P01" });
  });
});
