import { createHash, createHmac, pbkdf2Sync, randomBytes, timingSafeEqual } from "node:crypto";
import type { Secret } from "../values/secret.ts";

/** PostgreSQL's default number of rounds. */
const iterations = 4_096;

/**
 * What PostgreSQL stores for a password (RFC 5803). Sent instead of the password, so that neither the server's log nor
 * anybody who reads it ever sees the password itself.
 */
export function scramVerifier(password: Secret, salt: Buffer = randomBytes(16)): string {
  const { storedKey, serverKey } = keys(password, salt, iterations);
  return `SCRAM-SHA-256$${iterations}:${salt.toString("base64")}$${storedKey.toString("base64")}:${serverKey.toString("base64")}`;
}

/** Whether a stored verifier belongs to this password; false also for other kinds (md5). */
export function verifierMatches(verifier: string, password: Secret): boolean {
  const match = /^SCRAM-SHA-256\$([0-9]{1,7}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):[A-Za-z0-9+/=]+$/.exec(
    verifier,
  );
  if (match?.[1] === undefined || match[2] === undefined || match[3] === undefined) return false;
  const expected = keys(password, Buffer.from(match[2], "base64"), Number(match[1])).storedKey;
  const stored = Buffer.from(match[3], "base64");
  return stored.length === expected.length && timingSafeEqual(stored, expected);
}

function keys(password: Secret, salt: Buffer, rounds: number): { storedKey: Buffer; serverKey: Buffer } {
  const salted = pbkdf2Sync(password.reveal().normalize("NFKC"), salt, rounds, 32, "sha256");
  const hmac = (text: string): Buffer => createHmac("sha256", salted).update(text).digest();
  return {
    storedKey: createHash("sha256").update(hmac("Client Key")).digest(),
    serverKey: hmac("Server Key"),
  };
}
