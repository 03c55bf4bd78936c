import { randomBytes, timingSafeEqual } from "node:crypto";
import { readScramVerifier, scramKeys, sha256 } from "../pgwire/scram.ts";
import type { Secret } from "../values/secret.ts";

/** PostgreSQL's default number of rounds. */
const iterations = 4_096;

/**
 * What PostgreSQL stores for a password (RFC 5803). Sent instead of the password, so that neither the server's log nor
 * anybody who reads it ever sees the password itself.
 */
export function scramVerifier(password: Secret, salt: Buffer = randomBytes(16)): string {
  const { clientKey, serverKey } = scramKeys(password, salt, iterations);
  const [text, storedKey, key] = [salt, sha256(clientKey), serverKey].map((part) => part.toString("base64"));
  return `SCRAM-SHA-256$${iterations}:${text}$${storedKey}:${key}`;
}

/** Whether a stored verifier belongs to this password; false also for other kinds (md5). */
export function verifierMatches(verifier: string, password: Secret): boolean {
  const stored = readScramVerifier(verifier);
  if (stored === null) return false;
  return timingSafeEqual(
    stored.storedKey,
    sha256(scramKeys(password, stored.salt, stored.iterations).clientKey),
  );
}
