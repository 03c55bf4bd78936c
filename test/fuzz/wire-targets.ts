import { deepStrictEqual, ok, strictEqual } from "node:assert";
import * as decode from "../../src/pgwire/decode.ts";
import * as encode from "../../src/pgwire/encode.ts";
import { MalformedMessage } from "../../src/pgwire/malformed.ts";
import { MessageReader } from "../../src/pgwire/message-reader.ts";
import {
  encodeCancel,
  encodeSslRequest,
  encodeStartup,
  negotiate,
  readStartup,
} from "../../src/pgwire/startup.ts";
import { certificateHash } from "../../src/pgwire/certificate-hash.ts";
import { readProxyHeader } from "../../src/router/proxy-protocol.ts";
import { cut, mutated, randomBytes } from "./mutate.ts";
import type { Target } from "./runner.ts";

/** The result of a call, or the error that the protocol allows for. */
function outcome(call: () => unknown): unknown {
  try {
    return { value: call() };
  } catch (error) {
    if (error instanceof MalformedMessage) return { malformed: error.message };
    throw error;
  }
}

const startups = [
  encodeSslRequest(),
  encodeCancel(4711, Buffer.from([1, 2, 3, 4])),
  encodeCancel(4711, Buffer.alloc(32, 9)),
  encodeStartup([["user", "alice"]]),
  encodeStartup(
    [
      ["user", "alice"],
      ["database", "shop"],
      ["application_name", "caf\u00e9"],
      ["options", "-c search_path=a"],
      ["_pq_.option", "x"],
    ],
    9_999,
  ),
  Buffer.from("0000000804d2163000", "hex"),
  Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
  Buffer.from("160301020001000001fc0303", "hex"),
];

export const startup: Target = {
  name: "first packet",
  make: (rng) => mutated(rng, startups),
  run: (input) => {
    const read = readStartup(input);
    // A packet is a packet only when all of it is there, and what follows makes no difference.
    if (read !== null) {
      strictEqual(readStartup(input, 0, read.end - 1), null);
      deepStrictEqual(readStartup(Buffer.concat([Buffer.from("x"), input]), 1)?.packet, read.packet);
      if (read.packet.kind === "startup" && read.packet.major === 3) {
        negotiate(read.packet);
        const again = readStartup(encodeStartup(read.packet.parameters, read.packet.minor))?.packet;
        deepStrictEqual(again, { ...read.packet, extensions: new Map() });
      }
    }
  },
};

/** Messages of both directions, as seeds. */
const messages = [
  encode.authenticationSasl(["SCRAM-SHA-256"]),
  encode.authenticationMd5Password(Buffer.from("salt")),
  encode.parameterStatus("TimeZone", "UTC"),
  encode.backendKeyData(1, Buffer.alloc(32)),
  encode.readyForQuery(0x49),
  encode.errorResponse({ severity: "ERROR", code: "40001", message: "m", detail: "d", hint: "h" }),
  encode.rowDescription(["a", "b"]),
  encode.dataRow(["1", null, "\u00e4"]),
  encode.commandComplete("INSERT 0 1"),
  encode.query("select 1"),
  encode.parse("s", "select $1", [23, 25]),
  encode.bind("p", "s", [Buffer.from([0, 1]), null, "x"]),
  encode.describe("statement", "s"),
  encode.close("portal", "p"),
  encode.execute("p"),
  encode.sync(),
  encode.passwordMessage("md5abc"),
  encode.saslInitialResponse("SCRAM-SHA-256", "n,,n=,r=abc"),
];

/** Reads a stream of whole messages in the given pieces. */
function gather(pieces: readonly Buffer[]): { readonly seen: readonly string[]; readonly end: unknown } {
  const reader = new MessageReader(1_000_000);
  const seen: string[] = [];
  const end = outcome(() => {
    for (const piece of pieces) {
      reader.push(piece);
      for (let next = reader.next(); next !== null; next = reader.next())
        seen.push(`${next.type} ${next.body.toString("hex")}`);
    }
    return reader.rest().toString("hex");
  });
  return { seen, end };
}

export const frames: Target = {
  name: "whole messages",
  make: (rng) => {
    const several = Array.from({ length: 1 + rng.below(6) }, () => rng.pick(messages));
    return rng.chance(0.3) ? Buffer.concat(several) : mutated(rng, [Buffer.concat(several), ...messages]);
  },
  run: (input, rng) => {
    const whole = gather([input]);
    deepStrictEqual(gather(cut(rng, input)), whole);
    if (whole.end !== null && typeof whole.end === "object" && "malformed" in whole.end)
      throw new MalformedMessage("stream", "refused");
  },
};

const decoders: readonly ((body: Buffer, start: number, end: number) => unknown)[] = [
  decode.decodeServerMessage,
  decode.decodeParameterStatus,
  decode.decodeBackendKeyData,
  decode.decodeAuthentication,
  decode.decodeReadyForQuery,
  decode.decodeQuery,
  decode.decodeBind,
  decode.decodeDescribe,
  decode.decodeClose,
  decode.decodePasswordMessage,
  decode.decodeSaslInitialResponse,
];
const bodies = messages.map((message) => message.subarray(5));

export const bodiesTarget: Target = {
  name: "message body",
  make: (rng) => (rng.chance(0.2) ? Buffer.from(rng.pick(bodies)) : mutated(rng, bodies)),
  run: (input, rng) => {
    const before = randomBytes(rng, rng.below(5));
    const around = Buffer.concat([before, input, randomBytes(rng, rng.below(5))]);
    let read = false;
    for (const decoder of decoders) {
      const alone = outcome(() => decoder(input, 0, input.length));
      // What stands around the body makes no difference.
      deepStrictEqual(
        outcome(() => decoder(around, before.length, before.length + input.length)),
        alone,
      );
      read ||= typeof alone === "object" && alone !== null && "value" in alone;
    }
    if (!read) throw new MalformedMessage("body", "nobody reads it");
  },
};

const proxySignature = Buffer.from("0d0a0d0a000d0a515549540a", "hex");
const proxyHeaders = [
  Buffer.from("PROXY TCP4 192.0.2.1 192.0.2.2 40000 5432\r\n"),
  Buffer.from("PROXY TCP6 2001:db8::1 2001:db8::2 40000 5432\r\n"),
  Buffer.from("PROXY UNKNOWN\r\n"),
  Buffer.from("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\nrest"),
  Buffer.concat([proxySignature, Buffer.from("2111000cc0000201c00002029c401538", "hex")]),
  Buffer.concat([proxySignature, Buffer.from("21210024", "hex"), Buffer.alloc(36, 0x20)]),
  Buffer.concat([proxySignature, Buffer.from("21310000", "hex")]),
  Buffer.concat([proxySignature, Buffer.from("20000000", "hex")]),
  Buffer.concat([proxySignature, Buffer.from("21110013c0000201c00002029c40153804000401020304", "hex")]),
];

export const proxyHeader: Target = {
  name: "PROXY header",
  make: (rng) => mutated(rng, proxyHeaders),
  run: (input) => {
    const read = readProxyHeader(input);
    if (read === null) return;
    ok(read.end <= input.length);
    // Nothing is decided before all of the header is there, whatever comes behind it.
    strictEqual(readProxyHeader(input.subarray(0, read.end - 1)), null);
    deepStrictEqual(readProxyHeader(input.subarray(0, read.end)), read);
    const port = read.value.source?.port ?? 0;
    ok(port >= 0 && port <= 65_535);
  },
};

const certificate = Buffer.from("301230063004020101020130080606082a8648ce3d040302", "hex");

export const certificates: Target = {
  name: "certificate",
  make: (rng) => mutated(rng, [certificate]),
  run: (input) => {
    const hash = certificateHash(input);
    ok(hash === null || hash.length >= 28);
  },
};
