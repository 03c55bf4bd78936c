import { isIPv4, isIPv6 } from "node:net";
import { MalformedMessage } from "../pgwire/malformed.ts";

/** What a PROXY header says: who the client is, or nothing, when the sender speaks for itself (a health check). */
export interface ProxyHeader {
  readonly source: { readonly address: string; readonly port: number } | null;
}

const signature = Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]);
const start = "PROXY ";
/** The longest line of version 1, its end included. */
const longestLine = 107;
/** Bytes of version 2 behind its first 16: addresses and TLVs. Far more than anybody sends. */
const longestRest = 4_096;

/**
 * Reads a PROXY header of version 1 or 2 from the bytes that came so far. TLVs are skipped.
 * @returns null = more bytes are needed; otherwise the header and where it ends
 * @throws {MalformedMessage} as soon as it cannot become one
 */
export function readProxyHeader(bytes: Buffer): { value: ProxyHeader; end: number } | null {
  if (bytes.length === 0) return null;
  return bytes[0] === signature[0] ? readBinary(bytes) : readLine(bytes);
}

function fault(what: string): MalformedMessage {
  return new MalformedMessage("PROXY header", what);
}

function readLine(bytes: Buffer): { value: ProxyHeader; end: number } | null {
  const text = bytes.toString("latin1", 0, Math.min(bytes.length, longestLine));
  if (!text.startsWith(start.slice(0, text.length))) throw fault("it does not begin as one");
  const end = text.indexOf("\r\n");
  if (end === -1) {
    if (bytes.length >= longestLine) throw fault("its line has no end");
    return null;
  }
  const [, family, source = "", destination = "", sourcePort = "", destinationPort = "", ...more] = text
    .slice(0, end)
    .split(" ");
  if (family === "UNKNOWN") return { value: { source: null }, end: end + 2 };
  const isAddress = family === "TCP4" ? isIPv4 : family === "TCP6" ? isIPv6 : null;
  if (isAddress === null) throw fault("neither TCP4, TCP6 nor UNKNOWN");
  if (!isAddress(source) || !isAddress(destination)) throw fault("an address is none");
  const port = portOf(sourcePort);
  if (port === null || portOf(destinationPort) === null || more.length > 0) throw fault("a port is none");
  return { value: { source: { address: source, port } }, end: end + 2 };
}

function portOf(text: string): number | null {
  return /^(0|[1-9][0-9]{0,4})$/.test(text) && Number(text) <= 65_535 ? Number(text) : null;
}

function readBinary(bytes: Buffer): { value: ProxyHeader; end: number } | null {
  const known = Math.min(bytes.length, signature.length);
  if (bytes.compare(signature, 0, known, 0, known) !== 0) throw fault("it does not begin as one");
  if (bytes.length < 16) return null;
  const versionAndCommand = bytes.readUInt8(12);
  const familyAndProtocol = bytes.readUInt8(13);
  const rest = bytes.readUInt16BE(14);
  if (versionAndCommand >> 4 !== 2) throw fault(`version ${versionAndCommand >> 4}`);
  const command = versionAndCommand & 0x0f;
  if (command > 1) throw fault(`command ${command}`);
  if (rest > longestRest) throw fault(`${rest} bytes of addresses`);
  const end = 16 + rest;
  if (bytes.length < end) return null;
  // LOCAL: whatever follows is to be skipped.
  if (command === 0) return { value: { source: null }, end };
  return { value: { source: binarySource(bytes, familyAndProtocol, rest) }, end };
}

function binarySource(bytes: Buffer, familyAndProtocol: number, rest: number): ProxyHeader["source"] {
  switch (familyAndProtocol) {
    case 0x11: {
      if (rest < 12) throw fault("the addresses are cut off");
      return { address: [...bytes.subarray(16, 20)].join("."), port: bytes.readUInt16BE(24) };
    }
    case 0x21: {
      if (rest < 36) throw fault("the addresses are cut off");
      return { address: ipv6(bytes.subarray(16, 32)), port: bytes.readUInt16BE(48) };
    }
    case 0x00:
      return null;
    // A stream over a unix socket: the client is on the sender's own host.
    case 0x31:
      if (rest < 216) throw fault("the addresses are cut off");
      return null;
    default:
      throw fault(`address family and protocol 0x${familyAndProtocol.toString(16)}`);
  }
}

/** The canonical text of an address; one that only wraps an IPv4 address is that. */
function ipv6(bytes: Buffer): string {
  const mapped = bytes.subarray(0, 10).every((byte) => byte === 0) && bytes.readUInt16BE(10) === 0xffff;
  if (mapped) return [...bytes.subarray(12)].join(".");
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(2 * index).toString(16));
  return new URL(`http://[${groups.join(":")}]/`).hostname.slice(1, -1);
}
