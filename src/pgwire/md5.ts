import { createHash, timingSafeEqual } from "node:crypto";

const md5 = (data: string | Buffer): string => createHash("md5").update(data).digest("hex");

/** Whether rolpassword of pg_authid is an md5 hash. */
export function isMd5Stored(stored: string): boolean {
  return /^md5[0-9a-f]{32}$/.test(stored);
}

/** The answer to AuthenticationMD5Password, for a password message. @param salt the 4 bytes of the request */
export function md5Answer(stored: string, salt: Buffer): string {
  return `md5${md5(Buffer.concat([Buffer.from(stored.slice(3), "latin1"), salt]))}`;
}

/** Whether a client's answer shows that it knows the password. */
export function md5Matches(stored: string, salt: Buffer, answer: string): boolean {
  const expected = Buffer.from(md5Answer(stored, salt));
  const given = Buffer.from(answer);
  return isMd5Stored(stored) && given.length === expected.length && timingSafeEqual(given, expected);
}
