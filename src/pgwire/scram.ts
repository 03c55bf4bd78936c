import { createHash, createHmac, pbkdf2Sync } from "node:crypto";
import type { Secret } from "../values/secret.ts";

export const scramSha256 = "SCRAM-SHA-256";
export const scramSha256Plus = "SCRAM-SHA-256-PLUS";
/** The one kind of channel binding PostgreSQL knows (RFC 5929). */
export const channelBindingType = "tls-server-end-point";
export const keyLength = 32;

/** What a server keeps of a password (RFC 5803): enough to check a proof, not enough to make one. */
export interface ScramVerifier {
  readonly iterations: number;
  readonly salt: Buffer;
  readonly storedKey: Buffer;
  readonly serverKey: Buffer;
}

/** Enough to log in wherever the same verifier is stored, and to know the server; not the password. */
export interface ScramKeys {
  readonly clientKey: Buffer;
  readonly serverKey: Buffer;
}

/** Both keys in one text of one character per byte: thousands of them are kept, and as buffers each would keep far more alive. */
export function packKeys({ clientKey, serverKey }: ScramKeys): string {
  return clientKey.toString("latin1") + serverKey.toString("latin1");
}

/** What `packKeys` made a text of. */
export function unpackKeys(packed: string): ScramKeys {
  const both = Buffer.from(packed, "latin1");
  return { clientKey: both.subarray(0, keyLength), serverKey: both.subarray(keyLength) };
}

/** An exchange that cannot go on, with the SQLSTATE PostgreSQL gives it. A wrong password is not one: it is an outcome. */
export class ScramError extends Error {
  override readonly name = "ScramError";
  /** 08P01 protocol violation, 28000 the two ends disagree on channel binding, 0A000 something we do not offer. */
  readonly code: "08P01" | "28000" | "0A000";

  constructor(code: "08P01" | "28000" | "0A000", message: string) {
    super(message);
    this.code = code;
  }
}

const stored =
  /^SCRAM-SHA-256\$([1-9][0-9]{0,8}):([A-Za-z0-9+/=]{1,400})\$([A-Za-z0-9+/=]{44}):([A-Za-z0-9+/=]{44})$/;

/** @param text rolpassword of pg_authid; @returns null = not a SCRAM verifier (md5, or none at all) */
export function readScramVerifier(text: string): ScramVerifier | null {
  const match = stored.exec(text);
  if (match === null) return null;
  const [salt, storedKey, serverKey] = [match[2], match[3], match[4]].map((part) => base64(part ?? ""));
  if (salt == null || storedKey?.length !== keyLength || serverKey?.length !== keyLength) return null;
  return { iterations: Number(match[1]), salt, storedKey, serverKey };
}

/**
 * A verifier for a user who does not exist, that no password fits: the exchange with him looks like any other.
 * @param secret the same on every router and over restarts, or the salt of one name would change
 * @param iterations as the real users have them
 */
export function mockScramVerifier(user: string, secret: Buffer, iterations = 4096): ScramVerifier {
  const derive = (what: string): Buffer => hmac(secret, `${what}\0${user}`);
  return {
    iterations,
    salt: derive("salt").subarray(0, 16),
    storedKey: derive("stored key"),
    serverKey: derive("server key"),
  };
}

/** Takes about half a microsecond for each iteration, on the caller's thread. */
export function scramKeys(password: Secret, salt: Buffer, iterations: number): ScramKeys {
  const salted = pbkdf2Sync(password.reveal().normalize("NFKC"), salt, iterations, keyLength, "sha256");
  return { clientKey: hmac(salted, "Client Key"), serverKey: hmac(salted, "Server Key") };
}

export function sha256(data: Buffer): Buffer {
  return createHash("sha256").update(data).digest();
}

/** @param text one character per byte where it came over the wire */
export function hmac(key: Buffer, text: string, encoding: "utf8" | "latin1" = "utf8"): Buffer {
  return createHmac("sha256", key).update(text, encoding).digest();
}

export function xor(left: Buffer, right: Buffer): Buffer {
  const result = Buffer.alloc(left.length);
  for (let at = 0; at < left.length; at++) result[at] = (left[at] ?? 0) ^ (right[at] ?? 0);
  return result;
}

/** @returns null = not base64 as an encoder writes it */
export function base64(text: string): Buffer | null {
  const bytes = Buffer.from(text, "base64");
  return bytes.toString("base64") === text ? bytes : null;
}

/** Reads the attributes of a SCRAM message (`r=...,s=...`) one by one. */
export class Attributes {
  readonly #parts: readonly string[];
  #next = 0;

  constructor(message: string) {
    this.#parts = message.split(",");
  }

  get left(): number {
    return this.#parts.length - this.#next;
  }

  /** The value of the next attribute, which must be this one. */
  take(letter: string): string {
    const part = this.#parts[this.#next++];
    if (!part?.startsWith(`${letter}=`))
      throw new ScramError("08P01", `malformed SCRAM message (attribute "${letter}" expected)`);
    return part.slice(2);
  }

  /** Extensions nobody has to know; everything up to the last `keep` attributes. */
  skipExtensions(keep: number): void {
    for (; this.left > keep; this.#next++)
      if (!/^[A-Za-z]=/.test(this.#parts[this.#next] ?? ""))
        throw new ScramError("08P01", "malformed SCRAM message (attribute expected)");
  }
}

/** Printable ASCII without a comma (RFC 5802). */
export function isNonce(text: string): boolean {
  return /^[\x21-\x2b\x2d-\x7e]{1,1024}$/.test(text);
}
