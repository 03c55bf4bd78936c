import { BodyReader } from "./body-reader.ts";
import type { Named, ServerMessage } from "./encode.ts";

// The messages the router looks into. Each function reads one body, `start` to `end` of `buffer` without type and length,
// and throws MalformedMessage when the body is not what its type promises. Buffers in a result are views: what is kept beyond
// the call that handed the bytes over must be copied.

// Server to client

/** An error or a notice as a server sent it; a field it left out is undefined, severity and code then are empty. */
export function decodeServerMessage(body: Buffer, start = 0, end = body.length): ServerMessage {
  const reader = new BodyReader("ErrorResponse", body, start, end);
  const fields = new Map<number, string>();
  for (let field = reader.byte(); field !== 0; field = reader.byte()) fields.set(field, reader.text());
  const of = (letter: string): string | undefined => fields.get(letter.charCodeAt(0));
  return {
    // V is never translated; servers before 9.6 have only S.
    severity: of("V") ?? of("S") ?? "",
    code: of("C") ?? "",
    message: of("M") ?? "",
    detail: of("D"),
    hint: of("H"),
  };
}

export function decodeParameterStatus(
  body: Buffer,
  start = 0,
  end = body.length,
): { readonly name: string; readonly value: string } {
  const reader = new BodyReader("ParameterStatus", body, start, end);
  const name = reader.text();
  const value = reader.text();
  reader.finish();
  return { name, value };
}

/** @returns secret: 4 to 256 bytes, a copy */
export function decodeBackendKeyData(
  body: Buffer,
  start = 0,
  end = body.length,
): { readonly pid: number; readonly secret: Buffer } {
  const reader = new BodyReader("BackendKeyData", body, start, end);
  const pid = reader.uint32();
  if (reader.left < 4 || reader.left > 256) throw reader.fault(`a cancel key of ${reader.left} bytes`);
  return { pid, secret: Buffer.from(reader.bytes(reader.left)) };
}

/** What a server wants to know of who logs in. */
export type AuthenticationRequest =
  | { readonly kind: "ok" }
  | { readonly kind: "cleartext" }
  | { readonly kind: "md5"; readonly salt: Buffer }
  | { readonly kind: "sasl"; readonly mechanisms: readonly string[] }
  | { readonly kind: "sasl-continue"; readonly data: Buffer }
  | { readonly kind: "sasl-final"; readonly data: Buffer }
  /** Kerberos, GSSAPI, SSPI and what is to come. */
  | { readonly kind: "unsupported"; readonly code: number };

export function decodeAuthentication(body: Buffer, start = 0, end = body.length): AuthenticationRequest {
  const reader = new BodyReader("Authentication", body, start, end);
  const code = reader.uint32();
  switch (code) {
    case 0:
      reader.finish();
      return { kind: "ok" };
    case 3:
      reader.finish();
      return { kind: "cleartext" };
    case 5: {
      const salt = Buffer.from(reader.bytes(4));
      reader.finish();
      return { kind: "md5", salt };
    }
    case 10: {
      const mechanisms: string[] = [];
      for (let name = reader.text(); name !== ""; name = reader.text()) mechanisms.push(name);
      reader.finish();
      return { kind: "sasl", mechanisms };
    }
    case 11:
      return { kind: "sasl-continue", data: Buffer.from(reader.bytes(reader.left)) };
    case 12:
      return { kind: "sasl-final", data: Buffer.from(reader.bytes(reader.left)) };
    default:
      return { kind: "unsupported", code };
  }
}

/** @returns one of `transactionState` */
export function decodeReadyForQuery(body: Buffer, start = 0, end = body.length): number {
  const reader = new BodyReader("ReadyForQuery", body, start, end);
  const state = reader.byte();
  reader.finish();
  if (state !== 0x49 && state !== 0x54 && state !== 0x45) throw reader.fault(`a state of ${state}`);
  return state;
}

function decodeValues(reader: BodyReader, count: number): (Buffer | null)[] {
  const values: (Buffer | null)[] = [];
  for (let left = count; left > 0; left--) {
    const length = reader.int32();
    values.push(length === -1 ? null : reader.bytes(length));
  }
  return values;
}

// Client to server. Names and statements come with one character per byte: the client's encoding is not ours to know, and
// Buffer.from(text, "latin1") gives the bytes back.

export function decodeQuery(body: Buffer, start = 0, end = body.length): string {
  const reader = new BodyReader("Query", body, start, end);
  const sql = reader.latin1();
  reader.finish();
  return sql;
}

export interface BindMessage {
  readonly portal: string;
  readonly statement: string;
  readonly parameters: readonly (Buffer | null)[];
}

export function decodeBind(body: Buffer, start = 0, end = body.length): BindMessage {
  const reader = new BodyReader("Bind", body, start, end);
  const portal = reader.latin1();
  const statement = reader.latin1();
  const formats = reader.count();
  reader.bytes(2 * formats);
  const count = reader.count();
  if (formats > 1 && formats !== count) throw reader.fault(`${formats} formats for ${count} parameters`);
  const parameters = decodeValues(reader, count);
  reader.bytes(2 * reader.count());
  reader.finish();
  return { portal, statement, parameters };
}

function decodeNamed(where: string, body: Buffer, start: number, end: number): { kind: Named; name: string } {
  const reader = new BodyReader(where, body, start, end);
  const letter = reader.byte();
  if (letter !== 0x53 && letter !== 0x50) throw reader.fault(`of a kind ${letter}`);
  const name = reader.latin1();
  reader.finish();
  return { kind: letter === 0x53 ? "statement" : "portal", name };
}

export function decodeDescribe(
  body: Buffer,
  start = 0,
  end = body.length,
): { readonly kind: Named; readonly name: string } {
  return decodeNamed("Describe", body, start, end);
}

export function decodeClose(
  body: Buffer,
  start = 0,
  end = body.length,
): { readonly kind: Named; readonly name: string } {
  return decodeNamed("Close", body, start, end);
}

/** What a client answers to a request for a cleartext or md5 password. */
export function decodePasswordMessage(body: Buffer, start = 0, end = body.length): string {
  const reader = new BodyReader("PasswordMessage", body, start, end);
  const password = reader.text();
  reader.finish();
  return password;
}

/** A client's choice among the SASL mechanisms; data is empty where the client sent none. */
export function decodeSaslInitialResponse(
  body: Buffer,
  start = 0,
  end = body.length,
): { readonly mechanism: string; readonly data: Buffer } {
  const reader = new BodyReader("SASLInitialResponse", body, start, end);
  const mechanism = reader.text();
  const length = reader.int32();
  const data = Buffer.from(length === -1 ? [] : reader.bytes(length));
  reader.finish();
  return { mechanism, data };
}
