import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MalformedMessage } from "./malformed.ts";
import {
  encodeCancel,
  encodeSslRequest,
  encodeStartup,
  negotiate,
  readStartup,
  type StartupMessage,
} from "./startup.ts";

function startup(packet: Buffer): StartupMessage {
  const read = readStartup(packet);
  if (read?.packet.kind !== "startup") throw new Error("not a start-up message");
  return read.packet;
}

/** A packet of any code and content, its length right. */
function packet(code: number, rest: Buffer | string): Buffer {
  const body = Buffer.from(rest);
  const head = Buffer.alloc(8);
  head.writeUInt32BE(8 + body.length, 0);
  head.writeUInt32BE(code, 4);
  return Buffer.concat([head, body]);
}

const version3 = 3 << 16;

describe("the first packet", () => {
  it("is read back as it was written", () => {
    const name = fc.stringMatching(/^[a-z][a-z_.]{0,20}$/).filter((text) => !text.startsWith("_pq_"));
    const value = fc.string({ maxLength: 30 }).filter((text) => !text.includes("\0"));
    fc.assert(
      fc.property(fc.array(fc.tuple(name, value), { maxLength: 10 }), fc.nat(9999), (parameters, minor) => {
        const read = startup(encodeStartup(parameters, minor));
        expect(read).toEqual({
          kind: "startup",
          major: 3,
          minor,
          parameters: new Map(parameters),
          extensions: new Map(),
        });
      }),
    );
  });

  it("knows the requests and what came behind them", () => {
    const ssl = Buffer.concat([encodeSslRequest(), Buffer.from("early")]);
    expect(readStartup(ssl)).toEqual({ packet: { kind: "ssl-request" }, end: 8 });
    expect(readStartup(packet(80_877_104, ""))?.packet).toEqual({ kind: "gssenc-request" });
  });

  it.each([4, 32, 256])("reads a cancel key of %d bytes", (length) => {
    const secret = Buffer.alloc(length, 0xab);
    expect(readStartup(encodeCancel(0xfffffffe, secret))?.packet).toEqual({
      kind: "cancel",
      pid: 0xfffffffe,
      secret,
    });
  });

  it("waits for the rest at every byte", () => {
    const whole = encodeStartup([["user", "alice"]]);
    for (let length = 0; length < whole.length; length++)
      expect(readStartup(whole, 0, length), `${length}`).toBeNull();
    const within = Buffer.concat([Buffer.from("xx"), whole, Buffer.from("yy")]);
    expect(readStartup(within, 2)?.end).toBe(whole.length + 2);
  });

  it("keeps the last of a name that comes twice, and extensions apart", () => {
    const read = startup(
      encodeStartup([
        ["user", "alice"],
        ["_pq_.something", "1"],
        ["user", "bob"],
      ]),
    );
    expect([...read.parameters]).toEqual([["user", "bob"]]);
    expect([...read.extensions]).toEqual([["_pq_.something", "1"]]);
  });

  it("does not read on in another major version", () => {
    expect(startup(packet(2 << 16, "whatever"))).toMatchObject({ major: 2, minor: 0 });
    expect(startup(packet(4 << 16, ""))).toMatchObject({ major: 4 });
  });

  it("forgives an application name that is not UTF-8, but no name of a user", () => {
    const latin1 = (name: string): Buffer =>
      packet(version3, Buffer.concat([Buffer.from(`${name}\0caf`), Buffer.from([0xe9, 0, 0])]));
    expect(startup(latin1("application_name")).parameters.get("application_name")).toBe("caf\ufffd");
    expect(() => readStartup(latin1("user"))).toThrow(MalformedMessage);
  });

  it.each([
    ["a length below 8", Buffer.from("00000007", "hex")],
    ["a length above 10000", Buffer.from("00002711", "hex")],
    ["a negative length", Buffer.from("ffffffff", "hex")],
    ["HTTP", Buffer.from("GET / HTTP/1.1\r\n\r\n")],
    ["TLS", Buffer.from("1603010200", "hex")],
    ["parameters without an end", packet(version3, "user\0alice\0")],
    ["a name without a value", packet(version3, "user\0")],
    ["a value without its zero byte", packet(version3, "user\0alice")],
    ["something behind the end", packet(version3, "user\0alice\0\0x")],
    ["nothing", packet(version3, "")],
    ["an SSL request with more", packet(80_877_103, "x")],
    ["a cancel request without a pid", packet(80_877_102, "123")],
    ["a cancel key of 3 bytes", packet(80_877_102, "1234567")],
    ["a cancel key of 257 bytes", packet(80_877_102, Buffer.alloc(261))],
  ])("refuses %s", (_, bytes) => expect(() => readStartup(bytes)).toThrow(MalformedMessage));
});

describe("negotiate", () => {
  const asked = (minor: number, extensions: readonly string[] = []): ReturnType<typeof negotiate> =>
    negotiate(
      startup(
        encodeStartup(
          extensions.map((name) => [name, ""] as const),
          minor,
        ),
      ),
    );

  it("says nothing to a client of 3.0 or 3.2", () => {
    expect(asked(0)).toEqual({ minor: 0, answer: null });
    expect(asked(2)).toEqual({ minor: 2, answer: null });
  });

  it("names the newest version and the options nobody knows", () => {
    // 3.9999 is what drivers ask for to see whether servers negotiate.
    expect(asked(9999).minor).toBe(2);
    expect(asked(9999).answer?.toString("hex")).toBe("760000000c0003000200000000");
    expect(asked(0, ["_pq_.a"]).answer?.toString("latin1")).toBe("v\0\0\0\x13\0\x03\0\0\0\0\0\x01_pq_.a\0");
  });
});
