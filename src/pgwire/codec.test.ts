import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BodyReader } from "./body-reader.ts";
import * as decode from "./decode.ts";
import * as encode from "./encode.ts";
import { MalformedMessage } from "./malformed.ts";
import { MessageReader } from "./message-reader.ts";
import { transactionState } from "./message-types.ts";

/** The body of the one message in the buffer. */
function body(message: Buffer): Buffer {
  const reader = new MessageReader(1_000_000);
  reader.push(message);
  const read = reader.next();
  if (read === null || reader.rest().length > 0) throw new Error("not exactly one message");
  return read.body;
}

function fields(message: Buffer): BodyReader {
  const whole = body(message);
  return new BodyReader("test", whole, 0, whole.length);
}

/** As many as a count says. */
function several<Item>(count: number, read: () => Item): Item[] {
  return Array.from({ length: count }, read);
}

const text = fc.string({ maxLength: 30 }).filter((value) => !value.includes("\0"));
const ascii = fc.stringMatching(/^[ -~]{0,30}$/);
const bytes = fc.uint8Array({ maxLength: 40 }).map((value) => Buffer.from(value));

describe("messages of a server are read back as they were written", () => {
  it("errors and notices", () => {
    const optional = fc.option(text, { nil: undefined });
    const said = fc.record({
      severity: fc.constantFrom("ERROR", "FATAL", "WARNING"),
      code: fc.constantFrom("40001", "08007"),
      message: text,
      detail: optional,
      hint: optional,
    });
    fc.assert(
      fc.property(said, (message) => {
        expect(decode.decodeServerMessage(body(encode.errorResponse(message)))).toEqual(message);
        expect(decode.decodeServerMessage(body(encode.noticeResponse(message)))).toEqual(message);
      }),
    );
  });

  it("rows", () => {
    const row = fc.array(fc.option(text), { maxLength: 8 });
    fc.assert(
      fc.property(row, fc.array(text, { maxLength: 8 }), (values, names) => {
        const row = fields(encode.dataRow(values));
        const length = (): number => row.int32();
        const value = (bytes: number): string | null => (bytes === -1 ? null : row.bytes(bytes).toString());
        expect(several(row.count(), () => value(length()))).toEqual(values);
        const columns = fields(encode.rowDescription(names));
        const column = (): string => {
          const name = columns.text();
          // A text of no table, of any length, in text format.
          expect(columns.bytes(18).toString("hex")).toBe("0000000000000000001" + "9ffffffffffff0000");
          return name;
        };
        expect(several(columns.count(), column)).toEqual(names);
        row.finish();
        columns.finish();
      }),
    );
  });

  it("the small ones", () => {
    expect(decode.decodeParameterStatus(body(encode.parameterStatus("TimeZone", "Etc/UTC")))).toEqual({
      name: "TimeZone",
      value: "Etc/UTC",
    });
    const secret = Buffer.alloc(32, 5);
    expect(decode.decodeBackendKeyData(body(encode.backendKeyData(0xffffffff, secret)))).toEqual({
      pid: 0xffffffff,
      secret,
    });
    for (const state of Object.values(transactionState))
      expect(decode.decodeReadyForQuery(body(encode.readyForQuery(state)))).toBe(state);
    expect(body(encode.commandComplete("INSERT 0 1")).toString()).toBe("INSERT 0 1\0");
    expect(body(encode.emptyQueryResponse())).toHaveLength(0);
  });

  it("requests for authentication", () => {
    const asked = (message: Buffer): decode.AuthenticationRequest =>
      decode.decodeAuthentication(body(message));
    const data = Buffer.from("r=abc");
    expect(asked(encode.authenticationOk())).toEqual({ kind: "ok" });
    expect(decode.decodeAuthentication(Buffer.from("00000003", "hex"))).toEqual({ kind: "cleartext" });
    const salt = Buffer.from([0, 1, 254, 255]);
    expect(asked(encode.authenticationMd5Password(salt))).toEqual({ kind: "md5", salt });
    const mechanisms = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"];
    expect(asked(encode.authenticationSasl(mechanisms))).toEqual({ kind: "sasl", mechanisms });
    expect(asked(encode.authenticationSaslContinue(data))).toEqual({ kind: "sasl-continue", data });
    expect(asked(encode.authenticationSaslFinal(data))).toEqual({ kind: "sasl-final", data });
    expect(decode.decodeAuthentication(Buffer.from("00000007", "hex"))).toEqual({
      kind: "unsupported",
      code: 7,
    });
  });
});

describe("messages of a client are read back as they were written", () => {
  it("statements, by name and by bytes", () => {
    fc.assert(
      fc.property(ascii, ascii, fc.array(fc.nat(0xffffffff)), bytes, (name, sql, parameterTypes, raw) => {
        expect(decode.decodeQuery(body(encode.query(sql)))).toBe(sql);
        const read = fields(encode.parse(name, sql, parameterTypes));
        expect([read.text(), read.text()]).toEqual([name, sql]);
        expect(several(read.count(), () => read.uint32())).toEqual(parameterTypes);
        read.finish();
        fc.pre(!raw.includes(0));
        const named = fields(encode.parse(raw, raw));
        expect([named.latin1(), named.latin1()].map((each) => Buffer.from(each, "latin1"))).toEqual([
          raw,
          raw,
        ]);
      }),
    );
  });

  it("parameters", () => {
    fc.assert(
      fc.property(ascii, ascii, fc.array(fc.option(bytes)), (portal, statement, parameters) => {
        expect(decode.decodeBind(body(encode.bind(portal, statement, parameters)))).toEqual({
          portal,
          statement,
          parameters,
        });
      }),
    );
  });

  it("the small ones", () => {
    const named = { kind: "portal", name: "c1" } as const;
    expect(decode.decodeDescribe(body(encode.describe("portal", "c1")))).toEqual(named);
    expect(decode.decodeClose(body(encode.close("statement", "")))).toEqual({ kind: "statement", name: "" });
    expect(body(encode.execute("p", 7)).toString("hex")).toBe("700000000007");
    expect(decode.decodePasswordMessage(body(encode.passwordMessage("geheim\u00e4")))).toBe("geheim\u00e4");
    const data = Buffer.from("n,,n=,r=abc");
    const mechanism = "SCRAM-SHA-256";
    expect(decode.decodeSaslInitialResponse(body(encode.saslInitialResponse(mechanism, data)))).toEqual({
      mechanism,
      data,
    });
    expect(decode.decodeSaslInitialResponse(Buffer.from("X\0\xff\xff\xff\xff", "latin1")).data).toHaveLength(
      0,
    );
    expect(body(encode.saslResponse(data))).toEqual(data);
    expect(Buffer.concat([encode.sync(), encode.flush(), encode.terminate()]).toString("latin1")).toBe(
      "S\0\0\0\x04H\0\0\0\x04X\0\0\0\x04",
    );
  });

  it("no text carries a second one behind a zero byte", () => {
    expect(() => encode.query("select 1\0; drop table t")).toThrow(RangeError);
    expect(() => encode.parse(Buffer.from("a\0b"), "select 1")).toThrow(RangeError);
  });
});

describe("bodies that lie", () => {
  const decoders: readonly ((body: Buffer) => unknown)[] = [
    decode.decodeServerMessage,
    decode.decodeParameterStatus,
    decode.decodeBackendKeyData,
    decode.decodeAuthentication,
    decode.decodeReadyForQuery,
    decode.decodeQuery,
    decode.decodeBind,
    decode.decodeDescribe,
    decode.decodeClose,
    decode.decodePasswordMessage,
    decode.decodeSaslInitialResponse,
  ];

  it("are MalformedMessage for every decoder, never another error", () => {
    fc.assert(
      fc.property(fc.constantFrom(...decoders), bytes, (decoder, lying) => {
        try {
          decoder(lying);
        } catch (error) {
          expect(error).toBeInstanceOf(MalformedMessage);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it.each<[string, (body: Buffer) => unknown, string]>([
    ["a text without its end", decode.decodeQuery, "73656c656374"],
    ["something behind the text", decode.decodeQuery, "730073"],
    ["a parameter longer than the message", decode.decodeBind, "0000" + "0000" + "0001" + "7fffffff" + "00"],
    ["a parameter of length -2", decode.decodeBind, "0000" + "0000" + "0001" + "fffffffe" + "0000"],
    ["two formats for one parameter", decode.decodeBind, "0000" + "000200000000" + "0001ffffffff" + "0000"],
    ["more parameters than there are", decode.decodeBind, "0000" + "0000" + "ffff"],
    ["a kind nobody knows", decode.decodeClose, "5800"],
    ["a state nobody knows", decode.decodeReadyForQuery, "58"],
    ["fields without an end", decode.decodeServerMessage, "534552524f5200"],
    ["a cancel key that is too short", decode.decodeBackendKeyData, "00000001ffffff"],
  ])("%s", (_, decoder, hex) => expect(() => decoder(Buffer.from(hex, "hex"))).toThrow(MalformedMessage));

  it("reads from start to end and nowhere else", () => {
    const around = Buffer.concat([Buffer.from("xx"), body(encode.query("select 1")), Buffer.from("yy\0")]);
    expect(decode.decodeQuery(around, 2, around.length - 3)).toBe("select 1");
    expect(() => decode.decodeQuery(around, 2, around.length - 4)).toThrow(MalformedMessage);
    expect(() => decode.decodeQuery(around, 2, around.length + 1)).toThrow(MalformedMessage);
  });
});
