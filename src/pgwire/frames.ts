import { MalformedMessage } from "./malformed.ts";

/** Bytes of a message before its body: type and length. */
export const headerLength = 5;
/** PostgreSQL's own limit of what a message may announce as its length, in bytes. */
const largestMessage = 0x3fffffff;

/**
 * The length that the header at `at` announces, itself included and the type not; the whole header must be there. Read by
 * shifts: this runs once for each message that passes the router.
 * @throws {MalformedMessage} no message has this length
 */
export function announcedSize(buffer: Buffer, at: number): number {
  const size =
    (((buffer[at + 1] ?? 0) << 24) |
      ((buffer[at + 2] ?? 0) << 16) |
      ((buffer[at + 3] ?? 0) << 8) |
      (buffer[at + 4] ?? 0)) >>>
    0;
  if (size < 4 || size > largestMessage) throw lie(buffer[at] ?? 0, size);
  return size;
}

/** What is wrong with a header. */
export function lie(type: number, size: number): MalformedMessage {
  const name = type >= 0x21 && type <= 0x7e ? String.fromCharCode(type) : `0x${type.toString(16)}`;
  return new MalformedMessage(`message ${name}`, `a length of ${size}`);
}
