import { BodyReader } from "./body-reader.ts";
import { MalformedMessage } from "./malformed.ts";
import { MessageBuilder } from "./message-builder.ts";

/** The first packet of a connection. It has no type byte; its code says what it is. */
export type StartupPacket =
  | { readonly kind: "ssl-request" }
  | { readonly kind: "gssenc-request" }
  | {
      readonly kind: "cancel";
      /** Unsigned: a router may put more than a process number into it. */
      readonly pid: number;
      /** 4 bytes in protocol 3.0, up to 256 since 3.2; a copy. */
      readonly secret: Buffer;
    }
  | StartupMessage;

export interface StartupMessage {
  readonly kind: "startup";
  readonly major: number;
  readonly minor: number;
  /** In the order they came, without extensions; of a name that comes twice the last value. */
  readonly parameters: ReadonlyMap<string, string>;
  /** Names that begin with `_pq_.`: offers that a server takes or names in NegotiateProtocolVersion. */
  readonly extensions: ReadonlyMap<string, string>;
}

const sslCode = 80_877_103;
const gssCode = 80_877_104;
const cancelCode = 80_877_102;
/** PostgreSQL's own bounds of a first packet, its length included. */
const smallest = 8;
const largest = 10_000;
/** The newest protocol there is: 3.2 (PostgreSQL 18). */
const newestMinor = 2;
/** Bytes of a cancel key: exactly 4 in 3.0. */
const largestKey = 256;

/**
 * Reads a first packet from the bytes that came so far.
 * @returns null = more bytes are needed; otherwise the packet and where it ends: bytes behind an ssl-request that came
 * with it were not encrypted and must not be believed
 * @throws {MalformedMessage} as soon as it shows, so that nobody waits for the rest of a packet that cannot become good
 */
export function readStartup(
  buffer: Buffer,
  from = 0,
  to = buffer.length,
): { packet: StartupPacket; end: number } | null {
  if (to - from < 4) return null;
  const length = buffer.readInt32BE(from);
  if (length < smallest || length > largest)
    throw new MalformedMessage("start-up packet", `a length of ${length}`);
  if (to - from < length) return null;
  const end = from + length;
  return { packet: parse(new BodyReader("start-up packet", buffer, from + 4, end)), end };
}

function parse(body: BodyReader): StartupPacket {
  const code = body.uint32();
  if (code === sslCode || code === gssCode) {
    body.finish();
    return { kind: code === sslCode ? "ssl-request" : "gssenc-request" };
  }
  if (code === cancelCode) {
    const pid = body.uint32();
    if (body.left < 4 || body.left > largestKey) throw body.fault(`a cancel key of ${body.left} bytes`);
    return { kind: "cancel", pid, secret: Buffer.from(body.bytes(body.left)) };
  }
  const major = code >>> 16;
  const minor = code & 0xffff;
  // Only this much is the same in all versions: the rest of another major version is not ours to read.
  if (major !== 3) return { kind: "startup", major, minor, parameters: new Map(), extensions: new Map() };
  return { kind: "startup", major, minor, ...parameters(body) };
}

function parameters(body: BodyReader): Pick<StartupMessage, "parameters" | "extensions"> {
  const found = new Map<string, string>();
  const extensions = new Map<string, string>();
  for (;;) {
    if (body.left === 0) throw body.fault("the list of parameters has no end");
    const name = body.exactText();
    if (name === "") break;
    // PostgreSQL itself only keeps the ASCII of an application_name; anything else must arrive as it was sent.
    const value = name === "application_name" ? body.text() : body.exactText();
    (name.startsWith("_pq_.") ? extensions : found).set(name, value);
  }
  body.finish();
  return { parameters: found, extensions };
}

/**
 * What a server answers to the version a client asked for (major 3).
 * @returns the minor version to speak, and the NegotiateProtocolVersion to send before anything else; null = none needed
 */
export function negotiate(startup: StartupMessage): { minor: number; answer: Buffer | null } {
  const minor = Math.min(startup.minor, newestMinor);
  const refused = [...startup.extensions.keys()];
  if (minor === startup.minor && refused.length === 0) return { minor, answer: null };
  const answer = new MessageBuilder()
    .begin(0x76)
    // Drivers compare the whole version number, not the minor part alone.
    .int32((3 << 16) | minor)
    .int32(refused.length);
  for (const name of refused) answer.text(name);
  return { minor, answer: answer.end().take() };
}

/** @param parameters user and the rest, as they are to arrive; minor: 0 unless the server is known to speak more */
export function encodeStartup(parameters: Iterable<readonly [string, string]>, minor = 0): Buffer {
  const packet = new MessageBuilder(256).begin(null).int32((3 << 16) | minor);
  for (const [name, value] of parameters) packet.text(name).text(value);
  return packet.byte(0).end().take();
}

export function encodeSslRequest(): Buffer {
  return new MessageBuilder(8).begin(null).int32(sslCode).end().take();
}

/** The only packet of a connection of its own; the server answers nothing. */
export function encodeCancel(pid: number, secret: Buffer): Buffer {
  return new MessageBuilder(272).begin(null).int32(cancelCode).int32(pid).bytes(secret).end().take();
}
