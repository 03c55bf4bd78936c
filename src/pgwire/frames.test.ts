import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type FrameVisitor, FrameWalker } from "./frames.ts";
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

/** Writes down what it is told, and where in the whole stream each message began. */
class Recorder implements FrameVisitor {
  readonly seen: string[] = [];
  readonly walker: FrameWalker = new FrameWalker(this);
  readonly #limit: number;
  #before = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Hands a piece over in a buffer that is overwritten afterwards, as the sockets do. */
  feed(piece: Buffer): void {
    const shared = Buffer.alloc(piece.length + 7, 0xee);
    piece.copy(shared, 3);
    expect(this.walker.walk(shared, piece.length + 3, 3)).toBe(piece.length + 3);
    shared.fill(0xdd);
    this.#before += piece.length;
  }

  onMessage(type: number, bodyLength: number, offset: number): boolean {
    const collected = this.walker.collect(this.#limit);
    this.seen.push(`${type} ${bodyLength} at ${this.#before + offset - 3} ${collected}`);
    return true;
  }

  onBody(type: number, bytes: Buffer, start: number, end: number): void {
    this.seen.push(`${type} ${bytes.toString("hex", start, end)}`);
  }
}

describe("FrameWalker", () => {
  it("sees the same, however the stream is cut", () => {
    fc.assert(
      fc.property(messages, fc.array(fc.nat(600)), fc.nat(40), (sequence, cuts, limit) => {
        const stream = encoded(sequence);
        const recorder = new Recorder(limit);
        for (const piece of pieces(stream, cuts)) recorder.feed(piece);
        let at = 0;
        const expected = sequence.flatMap(({ type, body }) => {
          const begin = at;
          at += body.length + 5;
          const collected = body.length <= limit;
          const head = `${type} ${body.length} at ${begin} ${collected}`;
          return collected ? [head, `${type} ${body.toString("hex")}`] : [head];
        });
        expect(recorder.seen).toEqual(expected);
        expect(recorder.walker.atBorder).toBe(true);
      }),
    );
  });

  it("sees the same when every byte comes alone", () => {
    fc.assert(
      fc.property(messages, (sequence) => {
        const stream = encoded(sequence);
        const [whole, single] = [new Recorder(100), new Recorder(100)];
        whole.feed(stream);
        for (let at = 0; at < stream.length; at++) single.feed(stream.subarray(at, at + 1));
        expect(single.seen).toEqual(whole.seen);
      }),
    );
  });

  it("says where it stands inside a message", () => {
    const recorder = new Recorder(0);
    recorder.feed(Buffer.from("510000", "hex"));
    expect([recorder.walker.heldLength, recorder.walker.held.toString("hex")]).toEqual([3, "510000"]);
    expect(recorder.walker.atBorder).toBe(false);
    recorder.feed(Buffer.from("000868", "hex"));
    expect([recorder.walker.heldLength, recorder.walker.missing]).toEqual([0, 3]);
    recorder.feed(Buffer.from("690000", "hex"));
    expect([recorder.walker.atBorder, recorder.walker.missing]).toEqual([true, 0]);
  });

  it("stops in front of any message, and forwards exactly what stands before it", () => {
    fc.assert(
      fc.property(messages, fc.array(fc.nat(600)), fc.nat(11), (sequence, cuts, stopAt) => {
        fc.pre(stopAt < sequence.length);
        const stream = encoded(sequence);
        let count = 0;
        const walker: FrameWalker = new FrameWalker({
          onMessage: () => count++ !== stopAt,
          onBody: () => undefined,
        });
        const forwarded: Buffer[] = [];
        let kept = Buffer.alloc(0);
        let stopped = false;
        for (const piece of pieces(stream, cuts)) {
          if (stopped) {
            kept = Buffer.concat([kept, piece]);
            continue;
          }
          const held = Buffer.from(walker.held);
          const came = walker.walk(piece, piece.length);
          const all = Buffer.concat([held, piece]);
          stopped = came < piece.length || count > stopAt;
          const until = held.length + came - (stopped ? 0 : walker.heldLength);
          forwarded.push(all.subarray(0, until));
          if (stopped) kept = Buffer.from(all.subarray(until));
        }
        expect(stopped).toBe(true);
        expect(Buffer.concat(forwarded)).toEqual(encoded(sequence.slice(0, stopAt)));
        // The kept bytes, walked over again, bring the rest.
        expect(walker.atBorder).toBe(true);
        expect(walker.walk(kept, kept.length)).toBe(kept.length);
        expect(count).toBe(sequence.length + 1);
      }),
    );
  });

  it.each([
    ["below four", "5100000003"],
    ["negative", "51ffffffff"],
    ["above the limit", "5140000000"],
  ])("refuses a length %s", (_, hex) => {
    const header = Buffer.from(hex, "hex");
    expect(() => new Recorder(0).feed(header)).toThrow(MalformedMessage);
    const cut = new Recorder(0);
    cut.feed(header.subarray(0, 2));
    expect(() => cut.feed(header.subarray(2))).toThrow(MalformedMessage);
  });

  it("takes the largest length there is, and keeps no room for what has not come", () => {
    const recorder = new Recorder(0x3fffffff);
    const before = process.memoryUsage().arrayBuffers;
    recorder.feed(Buffer.from("643fffffff00", "hex"));
    expect(recorder.walker.missing).toBe(0x3fffffff - 5);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(10_000_000);
  });
});

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

  it("refuses a message above its limit before it has come", () => {
    const reader = new MessageReader(100);
    reader.push(Buffer.from("7000000065", "hex"));
    expect(() => reader.next()).toThrow(MalformedMessage);
  });
});
