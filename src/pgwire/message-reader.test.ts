import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MalformedMessage } from "./malformed.ts";
import { MessageReader } from "./message-reader.ts";

interface Message {
  readonly type: number;
  readonly body: Buffer;
}

const messages = fc.array(
  fc.record({
    type: fc.integer({ min: 0, max: 255 }),
    body: fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
  }),
  { maxLength: 12 },
);

function encoded(sequence: readonly Message[]): Buffer {
  return Buffer.concat(
    sequence.flatMap(({ type, body }) => {
      const header = Buffer.from([type, 0, 0, 0, 0]);
      header.writeUInt32BE(body.length + 4, 1);
      return [header, body];
    }),
  );
}

/** The stream in pieces: cut at any places, empty pieces included. */
function pieces(stream: Buffer, cuts: readonly number[]): Buffer[] {
  const places = [...cuts.map((cut) => cut % (stream.length + 1)), stream.length].sort((a, b) => a - b);
  return places.map((to, index) => stream.subarray(places[index - 1] ?? 0, to));
}

describe("MessageReader", () => {
  it("gives the same messages, however the stream is cut, and then the rest", () => {
    fc.assert(
      fc.property(messages, fc.array(fc.nat(600)), fc.nat(4), (sequence, cuts, more) => {
        const tail = Buffer.from("5a000000", "hex").subarray(0, more);
        const reader = new MessageReader();
        const found: Message[] = [];
        for (const piece of pieces(Buffer.concat([encoded(sequence), tail]), cuts)) {
          const shared = Buffer.from(piece);
          reader.push(shared);
          shared.fill(0xdd);
          for (let next = reader.next(); next !== null; next = reader.next()) found.push(next);
        }
        expect(found).toEqual(sequence);
        expect(reader.rest()).toEqual(tail);
        expect(reader.rest()).toHaveLength(0);
      }),
    );
  });

  it.each([
    ["below four", "7000000003"],
    ["negative", "70ffffffff"],
    ["above its limit", "7000000065"],
  ])("refuses a length %s before the message has come", (_, hex) => {
    const reader = new MessageReader(100);
    reader.push(Buffer.from(hex, "hex"));
    expect(() => reader.next()).toThrow(MalformedMessage);
  });
});
