import { createHash } from "node:crypto";

/** Signature algorithms and the hash that `tls-server-end-point` takes for each: SHA-256 instead of MD5 and SHA-1. */
const hashes: ReadonlyMap<string, string> = new Map([
  ["2a864886f70d010104", "sha256"], // RSA with MD5
  ["2a864886f70d010105", "sha256"], // RSA with SHA-1
  ["2a864886f70d01010e", "sha224"],
  ["2a864886f70d01010b", "sha256"],
  ["2a864886f70d01010c", "sha384"],
  ["2a864886f70d01010d", "sha512"],
  ["2a8648ce3d0401", "sha256"], // ECDSA with SHA-1
  ["2a8648ce3d040301", "sha224"],
  ["2a8648ce3d040302", "sha256"],
  ["2a8648ce3d040303", "sha384"],
  ["2a8648ce3d040304", "sha512"],
]);

/**
 * What both ends of a TLS connection know of the server's certificate: the channel binding `tls-server-end-point`
 * (RFC 5929).
 * @param certificate in DER
 * @returns null = its signature names no hash (PSS, EdDSA): there is no channel binding with it
 */
export function certificateHash(certificate: Buffer): Buffer | null {
  // Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { OBJECT IDENTIFIER, ... }, ... }
  const whole = element(certificate, 0);
  const signed = whole === null ? null : element(certificate, whole.start);
  const algorithm = signed === null ? null : element(certificate, signed.end);
  const identifier = algorithm === null ? null : element(certificate, algorithm.start);
  if (identifier === null) return null;
  const hash = hashes.get(certificate.toString("hex", identifier.start, identifier.end));
  return hash === undefined ? null : createHash(hash).update(certificate).digest();
}

/** Where the content of the DER element at `at` starts and ends; null = it does not fit. */
function element(bytes: Buffer, at: number): { start: number; end: number } | null {
  const first = bytes[at + 1];
  if (first === undefined) return null;
  if (first < 0x80) return fitting(bytes, at + 2, first);
  const lengthBytes = first & 0x7f;
  if (lengthBytes === 0 || lengthBytes > 4 || at + 2 + lengthBytes > bytes.length) return null;
  return fitting(bytes, at + 2 + lengthBytes, bytes.readUIntBE(at + 2, lengthBytes));
}

function fitting(bytes: Buffer, start: number, length: number): { start: number; end: number } | null {
  return start + length <= bytes.length ? { start, end: start + length } : null;
}
