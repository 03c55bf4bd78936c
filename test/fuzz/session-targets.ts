import { deepStrictEqual, ok } from "node:assert";
import * as encode from "../../src/pgwire/encode.ts";
import { MalformedMessage } from "../../src/pgwire/malformed.ts";
import { Books } from "../../src/router/session-books.ts";
import { ClientStream } from "../../src/router/session-client-stream.ts";
import { ServerStream } from "../../src/router/session-server-stream.ts";
import type { Rng } from "../simulation/rng.ts";
import { cut, mutated } from "./mutate.ts";
import type { Target } from "./runner.ts";

/** What one way of reading a stream led to. */
interface Read {
  readonly forwarded: Buffer;
  readonly kept: Buffer;
  readonly told: readonly string[];
  readonly books: unknown;
  readonly malformed: boolean;
}

/** Runs over the pieces, each in a buffer that is overwritten afterwards, as the sockets do. @returns whether it was refused */
function feed(pieces: readonly Buffer[], take: (shared: Buffer, length: number) => void): boolean {
  try {
    for (const piece of pieces) {
      const shared = Buffer.alloc(piece.length + 3, 0xee);
      piece.copy(shared);
      take(shared, piece.length);
      shared.fill(0xdd);
    }
    return false;
  } catch (error) {
    if (error instanceof MalformedMessage) return true;
    throw error;
  }
}

function state(books: Books): unknown {
  const { status, extended, copy, dirty, settingUnknown, transactions, atRest } = books;
  return {
    ...{ status, extended, copy, dirty, settingUnknown, transactions, atRest },
    replies: books.awaited.replies,
    names: [...books.settingNames()].sort(),
    statements: books.statements.messages().map((message) => message.toString("hex")),
    unnamed: books.statements.unnamedMessage?.toString("hex"),
    notable: books.statements.notable,
    outcome: books.outcome(false),
  };
}

/** However the stream was cut, the other side is sent the same, and the books say the same. */
function compare(whole: Read, pieces: Read, stream: Buffer): void {
  deepStrictEqual(pieces.malformed, whole.malformed);
  if (whole.malformed) throw new MalformedMessage("stream", "refused");
  // Of a long message the books see what comes with its header.
  const long = whole.told.at(-1) !== "0";
  deepStrictEqual(long ? { ...pieces, books: null } : pieces, long ? { ...whole, books: null } : whole);
  ok(stream.subarray(0, whole.forwarded.length).equals(whole.forwarded));
}

export const requests = [
  encode.query("select 1"),
  encode.query("set app.tenant = 7"),
  encode.query("begin"),
  encode.query("commit"),
  encode.parse("s", "select set_config($1, $2, false)", [25, 25]),
  encode.parse("", "insert into t values ($1)"),
  encode.bind("", "s", ["app.user", "x"]),
  encode.bind("p", "", ["x"]),
  encode.describe("statement", "s"),
  encode.close("statement", "s"),
  encode.execute("p"),
  encode.execute(""),
  encode.sync(),
  encode.flush(),
  Buffer.from("640000000861626364", "hex"),
  Buffer.from("6300000004", "hex"),
];

function sequence(rng: Rng, messages: readonly Buffer[]): Buffer {
  const stream = Buffer.concat(Array.from({ length: 1 + rng.below(10) }, () => rng.pick(messages)));
  return rng.chance(0.5) ? stream : mutated(rng, [stream]);
}

export function readClient(pieces: readonly Buffer[]): Read {
  const books = new Books();
  const client = new ClientStream(books);
  const forwarded: Buffer[] = [];
  const malformed = feed(pieces, (shared, length) => {
    if (client.kept.length > 0) {
      client.keep(shared, 0, length);
      while (client.kept.length > 0) {
        const to = client.walk(client.kept, 0, client.kept.length, false);
        if (to === 0) break;
        forwarded.push(Buffer.from(client.kept.subarray(0, to)));
        client.take(to);
      }
      return;
    }
    const to = client.walk(shared, 0, length, false);
    forwarded.push(Buffer.from(shared.subarray(0, to)));
    if (to < length) client.keep(shared, to, length);
  });
  const { kept, skip } = client;
  const told = [`${skip}`];
  return {
    forwarded: Buffer.concat(forwarded),
    kept: Buffer.from(kept),
    told,
    books: state(books),
    malformed,
  };
}

export const clientStream: Target = {
  name: "client's stream",
  make: (rng) => sequence(rng, requests),
  run: (input, rng) => compare(readClient([input]), readClient(cut(rng, input)), input),
};

export const replies = [
  encode.readyForQuery(0x49),
  encode.readyForQuery(0x54),
  encode.commandComplete("INSERT 0 1"),
  encode.rowDescription(["a"]),
  encode.dataRow(["1"]),
  encode.parameterStatus("TimeZone", "UTC"),
  encode.errorResponse({ severity: "ERROR", code: "22012", message: "division by zero" }),
  encode.noticeResponse({ severity: "WARNING", code: "01000", message: "m" }),
  Buffer.from("3100000004", "hex"),
  Buffer.from("3200000004", "hex"),
  Buffer.from("3300000004", "hex"),
  Buffer.from("470000000b00000000000000", "hex").subarray(0, 12),
  Buffer.from("480000000b00000000000000", "hex").subarray(0, 12),
  Buffer.from("640000000861626364", "hex"),
];

export function readServer(pieces: readonly Buffer[], asked: readonly Buffer[], watchAll: boolean): Read {
  const books = new Books();
  const client = new ClientStream(books);
  for (const message of asked) client.walk(message, 0, message.length, false);
  const forwarded: Buffer[] = [];
  const told: string[] = [];
  const take = (buffer: Buffer, from: number, to: number): void => {
    forwarded.push(Buffer.from(buffer.subarray(from, to)));
  };
  const server = new ServerStream(books, {
    forward: take,
    onNotable: (type, buffer, from, to) => {
      told.push(buffer.toString("hex", from, to));
      if (watchAll) server.enter(type, buffer, from);
      return true;
    },
  });
  server.watchAll = watchAll;
  const malformed = feed(pieces, (shared, length) => server.feed(shared, length));
  told.push(`${server.skip}`);
  return { forwarded: Buffer.concat(forwarded), kept: Buffer.alloc(0), told, books: state(books), malformed };
}

export const serverStream: Target = {
  name: "server's stream",
  make: (rng) => sequence(rng, replies),
  run: (input, rng) => {
    const asked = Array.from({ length: rng.below(8) }, () => rng.pick(requests));
    const watchAll = rng.chance(0.2);
    compare(readServer([input], asked, watchAll), readServer(cut(rng, input), asked, watchAll), input);
  },
};
