import { MalformedMessage } from "./malformed.ts";

/** Bytes of a message before its body: type and length. */
export const headerLength = 5;
/** PostgreSQL's own limit of what a message may announce as its length, in bytes. */
export const largestMessage = 0x3fffffff;

/** What is wrong with a header. */
export function lie(type: number, size: number): MalformedMessage {
  const name = type >= 0x21 && type <= 0x7e ? String.fromCharCode(type) : `0x${type.toString(16)}`;
  return new MalformedMessage(`message ${name}`, `a length of ${size}`);
}
