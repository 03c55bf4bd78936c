import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { routerRecord } from "../../test/support/agent-pictures.ts";
import { startup } from "../../test/support/raw-client.ts";
import { accessRule, FrontBench } from "../../test/support/router-front.ts";
import { routerSettings } from "../../test/support/router-source.ts";
import { fromServer } from "../pgwire/message-types.ts";
import { encodeCancel, encodeSslRequest, encodeStartup } from "../pgwire/startup.ts";
import { scramVerifier } from "../postgres/scram-verifier.ts";
import { systemTimers } from "../system/timers.ts";
import { Secret } from "../values/secret.ts";

const secret = new Secret("a pass word");
const everybody = accessRule({ method: "trust" });
const bench = new FrontBench({ passwords: new Map([["app", scramVerifier(secret)]]) });
afterEach(() => bench.clear());

function pause(): Promise<void> {
  return systemTimers.sleep(5);
}

describe("start-up", () => {
  test("a client that a rule lets in without a proof is handed over with what it said", async () => {
    const made = await bench.front({ settings: { access: [everybody] } });
    const client = await bench.connect(made);
    client.send(startup("app", { database: "shop", application_name: "web", TimeZone: "UTC" }));
    expect(await client.outcome()).toBeNull();
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
    const made = await bench.front({ settings: { access: [everybody] } });
    const client = await bench.connect(made);
    client.send(startup("app"));
    await client.outcome();
    expect(made.clients[0]?.parameters.get("database")).toBe("app");
  });

  test("any cut of the first packets gives the same", async () => {
    const made = await bench.front({ settings: { access: [everybody] } });
    const bytes = Buffer.concat([encodeSslRequest(), startup("app", { database: "shop" })]);
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 7 }),
        fc.integer({ min: 9, max: bytes.length }),
        async (a, b) => {
          const client = await bench.connect(made);
          client.send(bytes.subarray(0, a));
          await systemTimers.sleep(0);
          client.send(bytes.subarray(a, 8));
          expect((await client.bytes(1)).toString()).toBe("N");
          client.send(bytes.subarray(8, b));
          await systemTimers.sleep(0);
          client.send(bytes.subarray(b));
          expect(await client.outcome()).toBeNull();
          client.socket.destroy();
        },
      ),
      { numRuns: 25 },
    );
  });

  test("bytes behind the login wait for the session", async () => {
    const made = await bench.front({
      settings: { access: [everybody] },
      more: { onClient: (client) => void kept.push(client) },
    });
    const kept: { socket: { onBytes: (buffer: Buffer, length: number) => void; resume: () => void } }[] = [];
    const client = await bench.connect(made);
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
    const made = await bench.front({ settings: { access: [everybody] } });
    const client = await bench.connect(made);
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
    expect(await client.outcome()).toBeNull();
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
    const made = await bench.front({ settings: { access: [everybody] } });
    const client = await bench.connect(made);
    client.send(bytes());
    const said = await client.outcome();
    expect(said).toMatchObject({ severity: "FATAL", code });
    expect(said?.message).toContain(message);
    await client.closed();
    while (made.limits.starting > 0) await pause();
    expect(made.counters("primary")).toMatchObject({ accepted: 1, refused: 1 });
  });

  test("drops bytes that came together with the request for TLS", async () => {
    const made = await bench.front({ settings: { access: [everybody] } });
    const client = await bench.connect(made);
    client.send(encodeSslRequest(), startup("app"));
    expect(await client.outcome()).toMatchObject({ code: "08P01" });
    expect(made.clients).toHaveLength(0);
  });

  test("whoever is slow is dropped, at every step", async () => {
    const slow = { ...routerSettings.timeouts, startupMs: 60 };
    const made = await bench.front({ settings: { timeouts: slow } });
    const silent = await bench.connect(made);
    const half = await bench.connect(made);
    half.send(startup("app").subarray(0, 10));
    const dripping = await bench.connect(made);
    const drip = async (): Promise<void> => {
      while (!dripping.socket.destroyed) {
        dripping.send(Buffer.from([0]));
        await pause();
      }
    };
    void drip();
    const unproven = await bench.connect(made);
    unproven.send(startup("app"));
    await Promise.all([silent, half, dripping, unproven].map((client) => client.closed()));
    while (made.limits.starting > 0) await pause();
    expect(made.clients).toHaveLength(0);
  });

  test("only so many are in their start-up at once: others wait, and who says nothing does not count", async () => {
    const limits = { ...routerSettings.limits, starting: 2 };
    const made = await bench.front({ settings: { limits } });
    const silent = [await bench.connect(made), await bench.connect(made), await bench.connect(made)];
    const [first, second] = [await bench.connect(made), await bench.connect(made)];
    for (const client of [first, second]) {
      client.send(startup("app"));
      await client.message();
    }
    expect(made.limits.starting).toBe(2);
    const third = await bench.connect(made);
    third.send(startup("app"));
    await systemTimers.sleep(30);
    expect(third.socket.bytesRead).toBe(0);
    first.socket.destroy();
    expect(await third.scram(secret)).toBeNull();
    for (const client of silent) client.socket.destroy();
  });
});

describe("cancel requests", () => {
  test("reach the session whose key they show, and are answered by the end of the connection", async () => {
    const made = await bench.front({ settings: { access: [everybody] } });
    const client = await bench.connect(made);
    client.send(startup("app"));
    await client.outcome();
    const { pid, secret: text } = made.clients[0]!.cancelKey;
    const key = Buffer.from(text, "latin1");
    for (const wrong of [encodeCancel(pid, Buffer.alloc(4)), encodeCancel(pid + 1, key)]) {
      const request = await bench.connect(made);
      request.send(wrong);
      await request.closed();
    }
    expect(made.cancelled).toEqual([]);
    const request = await bench.connect(made);
    request.send(encodeCancel(pid, key));
    await request.closed();
    expect(made.cancelled).toEqual([made.clients[0]!.id]);
  });

  test("for a client of another router are handed on to it, and its answer is waited for", async () => {
    const settings = { access: [everybody] };
    const owner = await bench.front({ settings: { ...settings, router: "r2" } });
    const client = await bench.connect(owner);
    client.send(startup("app"));
    await client.outcome();
    const { pid, secret: text } = owner.clients[0]!.cancelKey;
    const key = Buffer.from(text, "latin1");
    const asked = await bench.front({ settings });
    asked.feed.known = [routerRecord("r2", { host: "127.0.0.1", listeners: owner.fronts.listeners })];
    const request = await bench.connect(asked);
    request.send(encodeCancel(pid, key));
    await request.closed();
    expect(owner.cancelled).toEqual([owner.clients[0]!.id]);
    expect(asked.cancelled).toEqual([]);
    // One that is gone is nobody's fault.
    await owner.fronts.close();
    const late = await bench.connect(asked);
    late.send(encodeCancel(pid, key));
    await late.closed();
  });
});

describe("limits", () => {
  test("a client too many is told the numbers, and its place comes free with the session before it", async () => {
    const limits = { ...routerSettings.limits, perUser: 1 };
    const made = await bench.front({ settings: { access: [everybody], limits } });
    const first = await bench.connect(made);
    first.send(startup("app"));
    await first.outcome();
    const second = await bench.connect(made);
    second.send(startup("app"));
    expect(await second.outcome()).toMatchObject({
      code: "53300",
      message: 'too many connections for role "app"',
      detail: "1 of 1 are in use.",
    });
    first.socket.destroy();
    while (made.limits.clients > 0) await pause();
    const third = await bench.connect(made);
    third.send(startup("app"));
    expect(await third.outcome()).toBeNull();
  });
});

describe("PROXY headers", () => {
  const believed = { proxyProtocol: true, proxyFrom: ["127.0.0.0/8"] };

  test("name the client to the rules and to the session", async () => {
    const access = [{ ...everybody, addresses: ["192.0.2.0/24"] }];
    const made = await bench.front({ listener: believed, settings: { access } });
    const client = await bench.connect(made);
    client.send(Buffer.from("PROXY TCP4 192.0.2.7 10.0.0.1 4711 5000\r\n"), startup("app"));
    expect(await client.outcome()).toBeNull();
    expect(made.clients[0]).toMatchObject({ address: "192.0.2.7", port: 4711 });
    const outside = await bench.connect(made);
    outside.send(Buffer.from("PROXY TCP4 198.51.100.1 10.0.0.1 4711 5000\r\n"), startup("app"));
    expect(await outside.outcome()).toMatchObject({
      code: "28000",
      message: 'no access rule for host "198.51.100.1", user "app", database "app", no encryption',
    });
  });

  test("are garbage from anybody else, and needed from those who are to send them", async () => {
    const stranger = await bench.front({ listener: { proxyProtocol: true, proxyFrom: ["10.0.0.0/8"] } });
    const client = await bench.connect(stranger);
    client.send(Buffer.from("PROXY TCP4 192.0.2.7 10.0.0.1 4711 5000\r\n"), startup("app"));
    expect(await client.outcome()).toMatchObject({ code: "08P01" });
    const made = await bench.front({ listener: believed, settings: { access: [everybody] } });
    const without = await bench.connect(made);
    without.send(startup("app"));
    expect(await without.outcome()).toMatchObject({ code: "08P01" });
  });
});
