import { Duplex } from "node:stream";
import type { Socket } from "node:net";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MessageStream } from "./message-stream.ts";

/** A socket of which a test is the other end. */
function pipe(): { readonly socket: Socket; readonly feed: (bytes: Buffer) => void } {
  const duplex = new Duplex({ read: () => undefined, write: (_chunk, _encoding, done) => done() });
  return { socket: duplex as unknown as Socket, feed: (bytes) => void duplex.emit("data", bytes) };
}

function message(type: number, body: Buffer): Buffer {
  const header = Buffer.alloc(5);
  header.writeUInt8(type, 0);
  header.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([header, body]);
}

describe("messages off a socket", () => {
  it("are the same however they are cut", () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({ type: fc.integer({ min: 65, max: 122 }), body: fc.uint8Array({ maxLength: 300 }) }),
        ),
        fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 5 }),
        (messages, cuts) => {
          const { socket, feed } = pipe();
          const stream = new MessageStream(socket);
          const got: { type: number; body: Uint8Array }[] = [];
          stream.onMessage = (type, body) => got.push({ type, body: Uint8Array.from(body) });
          const bytes = Buffer.concat(messages.map(({ type, body }) => message(type, Buffer.from(body))));
          for (let at = 0, index = 0; at < bytes.length; index += 1) {
            const length = cuts[index % cuts.length] ?? 1;
            feed(Buffer.from(bytes.subarray(at, at + length)));
            at += length;
          }
          expect(got).toEqual(messages);
        },
      ),
    );
  });

  it("are taken in pieces where that is asked for, in their order, and wait while they are held", () => {
    const type = fc.constantFrom(0x64, 0x54);
    fc.assert(
      fc.property(
        fc.array(fc.record({ type, body: fc.uint8Array({ maxLength: 300 }) })),
        fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 5 }),
        fc.array(fc.boolean(), { minLength: 1, maxLength: 7 }),
        (messages, cuts, holds) => {
          const { socket, feed } = pipe();
          const stream = new MessageStream(socket);
          const got: { type: number; body: Uint8Array }[] = [];
          let held = false;
          let calls = 0;
          const holdNow = (): void => {
            expect(held).toBe(false);
            held = holds[calls++ % holds.length] === true;
            if (held) stream.hold();
          };
          let parts: Buffer[] = [];
          stream.pieces = {
            type: 0x64,
            take: (bytes, begins, ends) => {
              if (begins) parts = [];
              parts.push(Buffer.from(bytes));
              if (ends) got.push({ type: 0x64, body: Uint8Array.from(Buffer.concat(parts)) });
              holdNow();
            },
          };
          stream.onMessage = (of, body) => {
            got.push({ type: of, body: Uint8Array.from(body) });
            holdNow();
          };
          const bytes = Buffer.concat(messages.map(({ type: of, body }) => message(of, Buffer.from(body))));
          const release = (): void => {
            for (let left = messages.length + bytes.length; held && left > 0; left -= 1) {
              held = false;
              stream.release();
            }
          };
          for (let at = 0, index = 0; at < bytes.length; index += 1) {
            const length = cuts[index % cuts.length] ?? 1;
            feed(Buffer.from(bytes.subarray(at, at + length)));
            if (index % 2 === 0) release();
            at += length;
          }
          release();
          expect(got).toEqual(messages);
        },
      ),
    );
  });

  it("that lie about their length, or are larger than any, end the stream", () => {
    for (const size of [3, 5_000_000]) {
      const { socket, feed } = pipe();
      const stream = new MessageStream(socket);
      const ended: string[] = [];
      stream.onEnd = (why) => ended.push(why);
      const header = Buffer.from("d0000", "latin1");
      header.writeUInt32BE(size, 1);
      feed(header);
      expect(ended).toHaveLength(1);
    }
  });
});
