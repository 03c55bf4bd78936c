import fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as encode from "../pgwire/encode.ts";
import { fromServer } from "../pgwire/message-types.ts";
import { Books } from "./session-books.ts";
import { ClientStream } from "./session-client-stream.ts";
import { ServerStream } from "./session-server-stream.ts";

const row = (bytes: number): Buffer => encode.dataRow(["x".repeat(bytes)]);
const parseComplete = Buffer.from([0x31, 0, 0, 0, 4]);
const copyInResponse = Buffer.from([0x47, 0, 0, 0, 7, 0, 0, 0]);
const copyData = (bytes: number): Buffer => {
  const message = Buffer.alloc(bytes + 5, 0x61);
  message.writeUInt8(0x64, 0);
  message.writeUInt32BE(bytes + 4, 1);
  return message;
};

const clientMessage = fc.oneof(
  fc.constantFrom("select 1", "begin", "commit", "set work_mem = '1MB'").map((sql) => encode.query(sql)),
  fc.nat(70_000).map((size) => encode.query(`select '${"y".repeat(size)}'`)),
  fc.nat(300_000).map((size) => encode.parse("s", `select '${"z".repeat(size)}'`)),
  fc.constantFrom("", "s").map((name) => encode.bind("", name, ["1"])),
  fc.nat(100_000).map((size) => encode.bind("", "", ["v".repeat(size)])),
  fc.constant(encode.execute("")),
  fc.constant(encode.sync()),
  fc.constant(encode.describe("statement", "s")),
  fc.constant(encode.close("statement", "s")),
  fc.nat(100_000).map(copyData),
);

const serverMessage = fc.oneof(
  fc.nat(200).map(row),
  fc.nat(100_000).map(row),
  fc.constantFrom(0x49, 0x54, 0x45).map(encode.readyForQuery),
  fc.constant(encode.commandComplete("SELECT 1")),
  fc.constant(encode.errorResponse({ severity: "ERROR", code: "42601", message: "no" })),
  fc.constant(encode.noticeResponse({ severity: "NOTICE", code: "00000", message: "well" })),
  fc.constant(encode.parameterStatus("TimeZone", "UTC")),
  fc.constant(parseComplete),
  fc.constant(copyInResponse),
);

/** Cuts bytes at the places given, in thousandths of their length. */
function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const at = [...new Set(places.map((place) => Math.floor((place * bytes.length) / 1000)))].sort(
    (a, b) => a - b,
  );
  return [0, ...at].map((from, index) => bytes.subarray(from, at[index] ?? bytes.length));
}

/** What of the books a session decides by. */
function entered(books: Books): unknown {
  const { status, extended, copy, dirty, atRest, quiet, awaited, statements } = books;
  return {
    ...{ status, extended, copy, dirty, atRest, quiet },
    replies: awaited.replies,
    statements: statements.messages().map((message) => message.length),
    unnamed: statements.unnamedMessage?.length ?? null,
    outcome: books.outcome(false),
  };
}

function walkClient(chunks: readonly Buffer[]): { books: unknown; sent: Buffer } {
  const books = new Books();
  const stream = new ClientStream(books);
  const sent: Buffer[] = [];
  for (const chunk of chunks) {
    stream.keep(chunk, 0, chunk.length);
    const to = stream.walk(stream.kept, 0, stream.kept.length, false);
    sent.push(Buffer.from(stream.kept.subarray(0, to)));
    stream.take(to);
  }
  return { books: entered(books), sent: Buffer.concat(sent) };
}

function feedServer(books: Books, chunks: readonly Buffer[]): { sent: Buffer; notable: string } {
  const sent: Buffer[] = [];
  const notable: string[] = [];
  const stream = new ServerStream(books, {
    forward: (buffer, from, to) => sent.push(Buffer.from(buffer.subarray(from, to))),
    onNotable: (type, _buffer, from, to) => {
      notable.push(`${String.fromCharCode(type)}${to - from}`);
      return true;
    },
  });
  for (const chunk of chunks) stream.feed(Buffer.from(chunk), chunk.length);
  return { sent: Buffer.concat(sent), notable: notable.join(" ") };
}

const cuts = fc.array(fc.nat(1000), { maxLength: 12 });

describe("the client's stream", () => {
  it("passes every byte on in its order and enters the same, however it is cut", () => {
    fc.assert(
      fc.property(fc.array(clientMessage, { maxLength: 12 }), cuts, (messages, places) => {
        const bytes = Buffer.concat(messages);
        const whole = walkClient(messages);
        expect(whole.sent.equals(bytes)).toBe(true);
        const pieces = walkClient(cut(bytes, places));
        expect(pieces.sent.equals(bytes)).toBe(true);
        // A message too long to be waited for is entered from what of it is there: no less cautiously.
        if (messages.every((message) => message.length <= 64 * 1024))
          expect(pieces.books).toEqual(whole.books);
      }),
      { numRuns: 150 },
    );
  });

  it("stops behind each request when asked to", () => {
    const stream = new ClientStream(new Books());
    const first = Buffer.concat([
      encode.parse("", "select 1"),
      encode.bind("", ""),
      encode.execute(""),
      encode.sync(),
    ]);
    const all = Buffer.concat([first, encode.query("select 2"), encode.query("select 3")]);
    expect(stream.walk(all, 0, all.length, true)).toBe(first.length);
    expect(stream.synced).toBe(true);
  });

  it("holds a short message back until it is complete, and lets a long one through", () => {
    const stream = new ClientStream(new Books());
    const short = encode.query("select 1");
    expect(stream.walk(short, 0, short.length - 1, false)).toBe(0);
    const long = encode.bind("", "", ["v".repeat(1_000_000)]);
    expect(stream.walk(long, 0, 60_000, false)).toBe(60_000);
    expect(stream.skip).toBe(long.length - 60_000);
  });

  it("refuses a length that lies", () => {
    const stream = new ClientStream(new Books());
    const lie = Buffer.from([0x51, 0, 0, 0, 3, 0]);
    expect(() => stream.walk(lie, 0, lie.length, false)).toThrow(/length of 3/);
  });

  it("takes a whole batch away that is not to be sent", () => {
    const stream = new ClientStream(new Books());
    const batch = Buffer.concat([encode.parse("", "select 1"), encode.bind("", ""), encode.execute("")]);
    stream.keep(batch, 0, batch.length);
    expect(stream.dropRequest()).toBe(false);
    const more = Buffer.concat([encode.sync(), encode.query("select 2")]);
    stream.keep(more, 0, more.length);
    expect(stream.dropRequest()).toBe(true);
    expect(stream.kept.equals(encode.query("select 2"))).toBe(true);
  });
});

describe("the server's stream", () => {
  it("passes every byte on in its order and enters the same, however it is cut", () => {
    fc.assert(
      fc.property(
        fc.array(clientMessage, { maxLength: 6 }),
        fc.array(serverMessage, { maxLength: 25 }),
        cuts,
        (requests, replies, places) => {
          const run = (chunks: readonly Buffer[]): unknown => {
            const books = new Books();
            const stream = new ClientStream(books);
            for (const request of requests) stream.walk(request, 0, request.length, false);
            const { sent, notable } = feedServer(books, chunks);
            return { sent: sent.toString("latin1"), notable, books: entered(books) };
          };
          const bytes = Buffer.concat(replies);
          const whole = run([bytes]);
          expect(whole).toMatchObject({ sent: bytes.toString("latin1") });
          expect(run(cut(bytes, places))).toEqual(whole);
        },
      ),
      { numRuns: 150 },
    );
  });

  it("never leaves a client in the middle of a short message", () => {
    const books = new Books();
    const sent: number[] = [];
    const stream = new ServerStream(books, {
      forward: (_buffer, from, to) => sent.push(to - from),
      onNotable: () => true,
    });
    const message = row(5_000);
    for (const byte of message) stream.feed(Buffer.from([byte]), 1);
    expect(sent).toEqual([message.length]);
    expect(stream.atBorder).toBe(true);
  });

  it("keeps from the client what the sink keeps", () => {
    const books = new Books();
    const sent: Buffer[] = [];
    const stream = new ServerStream(books, {
      forward: (buffer, from, to) => sent.push(Buffer.from(buffer.subarray(from, to))),
      onNotable: (type) => type !== fromServer.notice,
    });
    const notice = encode.noticeResponse({ severity: "WARNING", code: "57P01", message: "terminating" });
    const bytes = Buffer.concat([row(3), notice, row(4)]);
    stream.feed(bytes, bytes.length);
    expect(Buffer.concat(sent).equals(Buffer.concat([row(3), row(4)]))).toBe(true);
  });
});
