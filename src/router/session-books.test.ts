import { describe, expect, it } from "vitest";
import * as encode from "../pgwire/encode.ts";
import { fromServer, transactionState } from "../pgwire/message-types.ts";
import { farewell } from "./session-answers.ts";
import { Books } from "./session-books.ts";
import { ClientStream } from "./session-client-stream.ts";

const { idle, open, failed } = transactionState;

/** A conversation: what the client sends, and what the server answers. */
class Talk {
  readonly books = new Books();
  readonly #stream = new ClientStream(this.books);

  says(...messages: Buffer[]): this {
    const bytes = Buffer.concat(messages);
    this.#stream.walk(bytes, 0, bytes.length, false);
    return this;
  }

  asks(sql: string): this {
    return this.says(encode.query(sql));
  }

  /** A batch of the extended protocol. */
  runs(sql: string, name = ""): this {
    return this.says(encode.parse(name, sql), encode.bind("", name), encode.execute(""), encode.sync());
  }

  /** The server takes a Parse. */
  parsed(): this {
    this.books.awaited.parseComplete();
    return this;
  }

  ready(state: number = idle): this {
    this.books.ready(state);
    return this;
  }
}

const copyDone = Buffer.from([0x63, 0, 0, 0, 4]);

describe("when a session is at rest", () => {
  it("only after every answer, outside a transaction", () => {
    const talk = new Talk().asks("select 1");
    expect(talk.books.atRest).toBe(false);
    expect(talk.ready().books.atRest).toBe(true);
    expect(talk.asks("begin").ready(open).books.atRest).toBe(false);
    expect(talk.asks("commit").ready().books.atRest).toBe(true);
  });

  it("counts pipelined requests", () => {
    const talk = new Talk().asks("select 1").asks("select 2").runs("select 3");
    expect(talk.ready().ready().books.atRest).toBe(false);
    expect(talk.ready().books.atRest).toBe(true);
  });

  it("not between a Parse and its Sync, nor behind a Flush", () => {
    const talk = new Talk().says(encode.parse("", "select 1"), encode.flush());
    expect(talk.books.atRest).toBe(false);
    expect(talk.says(encode.sync()).ready().books.atRest).toBe(true);
  });

  it("again after a COPY whose first Sync the server passed over", () => {
    const talk = new Talk().runs("copy t from stdin");
    talk.books.copyBegins(fromServer.copyIn);
    expect(talk.books.atRest).toBe(false);
    talk.says(copyDone, encode.sync());
    talk.books.statementOver();
    expect(talk.ready().books.atRest).toBe(true);
    expect(talk.books.awaited.replies).toBe(0);
  });

  it("again after a COPY that was sent in one piece with its data and its end", () => {
    const talk = new Talk().runs("copy t from stdin").says(copyDone, encode.sync());
    talk.books.copyBegins(fromServer.copyIn);
    talk.books.statementOver();
    expect(talk.books.awaited.replies).toBe(1);
    expect(talk.ready().books.atRest).toBe(true);
  });

  it("again after a COPY by Query, whose answer comes at its end", () => {
    const talk = new Talk().asks("copy t from stdin");
    talk.books.copyBegins(fromServer.copyIn);
    talk.says(copyDone);
    talk.books.statementOver();
    expect(talk.ready().books.atRest).toBe(true);
  });
});

describe("what became of work whose server is gone", () => {
  const outcome = (talk: Talk): string => talk.books.outcome(false);

  it.each<[string, (talk: Talk) => Talk, string]>([
    ["nothing was sent", (talk) => talk, "nothing"],
    ["a statement alone", (talk) => talk.asks("insert into t values (1)"), "unknown"],
    ["a read alone: a function may write", (talk) => talk.asks("select f()"), "unknown"],
    ["the beginning of a transaction", (talk) => talk.asks("begin isolation level serializable"), "aborted"],
    [
      "a statement in a transaction",
      (talk) => talk.asks("begin").ready(open).asks("insert into t values (1)"),
      "aborted",
    ],
    ["a commit", (talk) => talk.asks("begin").ready(open).asks("commit"), "unknown"],
    ["a commit by the extended protocol", (talk) => talk.asks("begin").ready(open).runs("commit"), "unknown"],
    [
      "PREPARE TRANSACTION",
      (talk) => talk.asks("begin").ready(open).asks("prepare transaction 'x'"),
      "unknown",
    ],
    ["COMMIT PREPARED", (talk) => talk.asks("commit prepared 'x'"), "unknown"],
    [
      "a transaction sent with its beginning",
      (talk) =>
        talk.says(
          encode.parse("", "begin"),
          encode.bind("", ""),
          encode.execute(""),
          encode.parse("", "insert into t values (1)"),
          encode.bind("", ""),
          encode.execute(""),
          encode.sync(),
        ),
      "aborted",
    ],
    [
      "two requests, the second after the commit",
      (talk) => talk.asks("begin").ready(open).asks("commit").asks("select 1"),
      "unknown",
    ],
    [
      "a statement prepared and not run",
      (talk) => talk.says(encode.parse("s", "insert into t values (1)"), encode.sync()),
      "aborted",
    ],
    [
      "a named commit, run again",
      (talk) =>
        talk
          .runs("commit", "c")
          .parsed()
          .ready()
          .asks("begin")
          .ready(open)
          .says(encode.bind("", "c"), encode.execute(""), encode.sync()),
      "unknown",
    ],
    [
      "a failed transaction's statement",
      (talk) => talk.asks("begin").ready(failed).asks("select 1"),
      "aborted",
    ],
  ])("%s", (_what, play, expected) => {
    expect(outcome(play(new Talk()))).toBe(expected);
  });

  it("a copy before its end is nothing, after it nobody knows", () => {
    const talk = new Talk().asks("copy t from stdin");
    talk.books.copyBegins(fromServer.copyIn);
    expect(outcome(talk)).toBe("aborted");
    expect(outcome(talk.says(copyDone))).toBe("unknown");
  });

  it.each([
    ["begin", "BEGIN"],
    ["BEGIN ISOLATION LEVEL SERIALIZABLE;", "BEGIN"],
    ["start transaction read only", "START TRANSACTION"],
  ])("%s alone in flight begins all the same, and is lost at the next message", (sql, tag) => {
    const { books } = new Talk().asks(sql);
    expect(farewell(books, books.outcome(false))).toEqual({
      bytes: Buffer.concat([encode.commandComplete(tag), encode.readyForQuery(open)]),
      ...{ owed: true, discard: false, status: failed },
    });
  });

  it("a BEGIN alone in its batch begins as well, by the answers its messages are owed", () => {
    const said = [encode.parse("", "begin"), encode.bind("", "")];
    const rest = [encode.execute(""), encode.sync()];
    const answers = (...messages: Buffer[]): string =>
      farewell(new Talk().says(...messages).books, "aborted").bytes.toString("latin1");
    const done = "C\0\0\0\nBEGIN\0Z\0\0\0\x05T";
    const [parsed, bound, none] = ["1", "2", "n"].map((type) => `${type}\0\0\0\x04`);
    expect(answers(...said, ...rest)).toBe(`${parsed}${bound}${done}`);
    expect(answers(...said, encode.describe("portal", ""), ...rest)).toBe(`${parsed}${bound}${none}${done}`);
  });

  it.each<[string, Talk]>([
    ["inside a transaction", new Talk().asks("begin").ready(open).asks("begin")],
    ["with another request behind it", new Talk().asks("begin").asks("select 1")],
    ["with a batch behind it", new Talk().asks("begin").says(encode.parse("", "select 1"))],
    ["with another statement in its text", new Talk().asks("begin; select 1")],
    ["with another statement in its batch", new Talk().runs("begin").runs("select 1")],
    ["of a named statement", new Talk().runs("begin", "b")],
    ["of whose answer the client has a part", new Talk().runs("begin").parsed()],
    ["without its Sync", new Talk().says(encode.parse("", "begin"), encode.bind("", ""), encode.execute(""))],
  ])("a BEGIN %s is answered with an error", (_what, { books }) => {
    expect(farewell(books, books.outcome(false)).owed).toBe(false);
  });

  it("a BEGIN of whose answer the client has a part is not answered twice", () => {
    const { books } = new Talk().asks("begin");
    books.statementOver();
    expect(books.begun).toBeNull();
  });

  it("on a standby nothing can have become durable", () => {
    expect(new Talk().asks("select f()").books.outcome(true)).toBe("aborted");
  });
});

describe("what changes the session", () => {
  it.each([
    ["select 1", false],
    ["insert into t values (1)", false],
    ["set local work_mem = '1MB'", false],
    ["set work_mem = '1MB'", true],
    ["select set_config('app.tenant', 'x', false)", true],
    ["prepare p as select 1", true],
    ["listen c", true],
    ["discard all", true],
    ["create temp table x (n int)", true],
    ["select pg_advisory_lock(1)", true],
    ["do $$ begin end $$", true],
  ])("%s: %s", (sql, dirty) => {
    expect(new Talk().asks(sql).books.dirty).toBe(dirty);
    expect(new Talk().runs(sql).books.dirty).toBe(dirty);
  });

  it("a prepared statement each time it is run, with the names it is given", () => {
    const talk = new Talk().runs("select set_config($1, $2, false)", "s");
    talk.parsed().ready().books.dirty = false;
    talk.says(encode.bind("", "s", ["app.tenant", "blue"]), encode.execute(""), encode.sync());
    expect(talk.books.dirty).toBe(true);
    expect([...talk.books.settingNames()]).toEqual(["app.tenant"]);
    expect(talk.books.settingUnknown).toBe(false);
  });

  it("a setting named by an expression cannot be followed", () => {
    expect(new Talk().asks("select set_config('app.' || k, v, false) from kv").books.settingUnknown).toBe(
      true,
    );
  });
});

describe("statements of the protocol", () => {
  it("are kept when the server has taken them", () => {
    const talk = new Talk().says(encode.parse("a", "select 1"), encode.parse("b", "select"), encode.sync());
    talk.books.awaited.parseComplete();
    talk.books.statementOver();
    talk.ready();
    expect(talk.books.statements.messages()).toEqual([encode.parse("a", "select 1")]);
  });

  it("are gone when they are closed, or the server says so", () => {
    const talk = new Talk().says(encode.parse("a", "select 1"), encode.parse("b", "select 2"), encode.sync());
    talk.books.awaited.parseComplete();
    talk.books.awaited.parseComplete();
    talk.ready().says(encode.close("statement", "a"), encode.sync());
    talk.books.awaited.closeComplete();
    talk.ready();
    expect(talk.books.statements.messages()).toEqual([encode.parse("b", "select 2")]);
    expect(talk.books.statements.keepOnly(new Set())).toBe(true);
    expect(talk.books.statements.messages()).toEqual([]);
    expect(talk.books.statements.keepOnly(new Set(["sql"]))).toBe(false);
  });

  it("the unnamed one is kept until a Query, or a Parse that fails", () => {
    const parsed = encode.parse("", "select 1");
    const talk = new Talk().says(parsed, encode.sync());
    talk.books.awaited.parseComplete();
    expect(talk.ready().books.statements.unnamedMessage).toEqual(parsed);
    expect(talk.asks("select 2").ready().books.statements.unnamedMessage).toBeNull();
    expect(
      talk.says(encode.parse("", "selec"), encode.sync()).ready().books.statements.unnamedMessage,
    ).toBeNull();
  });

  it("too large ones are counted, not kept", () => {
    const talk = new Talk().says(encode.parse("a", `select '${"x".repeat(1024 * 1024)}'`), encode.sync());
    talk.books.awaited.parseComplete();
    expect(talk.ready().books.statements.tooLarge).toBe(true);
  });
});

describe("what a lost transaction leaves of the session", () => {
  /** The server is gone. @returns whether the session has to be looked at */
  const dirtyAfterLoss = (talk: Talk): boolean => {
    talk.books.lost(talk.books.outcome(false));
    return talk.books.dirty;
  };
  const inTransaction = (): Talk => new Talk().asks("begin").ready(open);

  it.each([
    "set work_mem = '1MB'",
    "select set_config('app.a', 'b', false)",
    "listen news",
    "create temp table t (n int)",
    "declare c cursor with hold for select 1",
  ])("nothing of %s, which is rolled back", (sql) => {
    expect(dirtyAfterLoss(inTransaction().asks(sql))).toBe(false);
    expect(dirtyAfterLoss(inTransaction().asks(sql).ready(open))).toBe(false);
    expect(dirtyAfterLoss(inTransaction().runs(sql).ready(open).asks("rollback"))).toBe(false);
  });

  it.each([
    "prepare a as select 1",
    "deallocate a",
    "select pg_advisory_lock(1)",
    "execute unknown",
    "load 'auto_explain'",
    "do $$ begin end $$",
  ])("perhaps all of %s, which is not", (sql) => {
    expect(dirtyAfterLoss(inTransaction().asks(sql).ready(open))).toBe(true);
  });

  it("all of what was there before, and of what may have been committed", () => {
    const set = "set work_mem = '1MB'";
    expect(dirtyAfterLoss(new Talk().asks(set).ready().asks("begin").ready(open))).toBe(true);
    expect(dirtyAfterLoss(inTransaction().asks(set).ready(open).asks("commit"))).toBe(true);
    expect(dirtyAfterLoss(inTransaction().asks(set).ready(open).asks("commit").ready())).toBe(true);
    expect(dirtyAfterLoss(new Talk().asks(set))).toBe(true);
    // That a BEGIN on its way has begun anything nobody has said yet.
    expect(dirtyAfterLoss(new Talk().asks("begin").asks(set))).toBe(true);
  });
});

describe("an EXECUTE of SQL", () => {
  const knows = (body: string): Talk => {
    const talk = new Talk();
    talk.books.sqlPrepared = new Map([["a", body]]);
    return talk;
  };

  it("counts as what it executes, where that is known", () => {
    const talk = knows(" select $1").asks("execute a(1)");
    expect([talk.books.dirty, talk.books.outcome(false)]).toEqual([false, "unknown"]);
    const inside = knows(" insert into t values ($1)").asks("begin").ready(open).asks("EXECUTE a (1);");
    expect([inside.books.dirty, inside.books.outcome(false)]).toEqual([false, "aborted"]);
  });

  it.each([
    ["execute a(set_config('x.y', '1', false))", " select 1"],
    ["execute a(1)", " select set_config($1, '1', false)"],
    ["execute a(1)", ""],
    ["execute b", " select 1"],
    ["execute a; set work_mem = '1MB'", " select 1"],
    ["explain analyze execute a", " select 1"],
  ])("is looked at afterwards where more may happen: %s of %s", (sql, body) => {
    expect(knows(body).asks(sql).books.dirty).toBe(true);
  });
});
