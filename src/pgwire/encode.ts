import { MessageBuilder, type Text } from "./message-builder.ts";
import { fromClient, fromServer } from "./message-types.ts";

// One buffer per message. Several go out together with Buffer.concat. Text parameters take a string (sent as UTF-8) or the
// very bytes, for what a client named in an encoding of its own.

/** What an error or a notice says. */
export interface ServerMessage {
  /** ERROR, FATAL, PANIC; WARNING, NOTICE, LOG, INFO, DEBUG. Never translated. */
  readonly severity: string;
  /** SQLSTATE. */
  readonly code: string;
  readonly message: string;
  readonly detail?: string | undefined;
  readonly hint?: string | undefined;
}

const text = 25;

function empty(type: number): Buffer {
  return new MessageBuilder(5).begin(type).end().take();
}

function authentication(code: number): MessageBuilder {
  return new MessageBuilder().begin(fromServer.authentication).int32(code);
}

// Server to client

export function authenticationOk(): Buffer {
  return authentication(0).end().take();
}

/** @param salt 4 bytes */
export function authenticationMd5Password(salt: Buffer): Buffer {
  return authentication(5).bytes(salt).end().take();
}

export function authenticationSasl(mechanisms: readonly string[]): Buffer {
  const message = authentication(10);
  for (const mechanism of mechanisms) message.text(mechanism);
  return message.byte(0).end().take();
}

export function authenticationSaslContinue(data: Text): Buffer {
  return authentication(11).bytes(data).end().take();
}

export function authenticationSaslFinal(data: Text): Buffer {
  return authentication(12).bytes(data).end().take();
}

export function parameterStatus(name: string, value: Text): Buffer {
  return new MessageBuilder().begin(fromServer.parameterStatus).text(name).text(value).end().take();
}

/** @param secret 4 bytes towards a 3.0 client */
export function backendKeyData(pid: number, secret: Buffer): Buffer {
  return new MessageBuilder().begin(fromServer.backendKeyData).int32(pid).bytes(secret).end().take();
}

/** @param state one of `transactionState` */
export function readyForQuery(state: number): Buffer {
  return new MessageBuilder(6).begin(fromServer.readyForQuery).byte(state).end().take();
}

function serverMessage(type: number, said: ServerMessage): Buffer {
  const message = new MessageBuilder(256).begin(type);
  const field = (letter: string, value: string | undefined): void => {
    if (value !== undefined) message.byte(letter.charCodeAt(0)).text(value.replaceAll("\0", ""));
  };
  field("S", said.severity);
  field("V", said.severity);
  field("C", said.code);
  field("M", said.message);
  field("D", said.detail);
  field("H", said.hint);
  return message.byte(0).end().take();
}

export function errorResponse(said: ServerMessage): Buffer {
  return serverMessage(fromServer.error, said);
}

export function noticeResponse(said: ServerMessage): Buffer {
  return serverMessage(fromServer.notice, said);
}

/** @param columns names; all of them of type text, in text format */
export function rowDescription(columns: readonly string[]): Buffer {
  const message = new MessageBuilder(512).begin(fromServer.rowDescription).int16(columns.length);
  for (const name of columns) message.text(name).int32(0).int16(0).int32(text).int16(-1).int32(-1).int16(0);
  return message.end().take();
}

export function dataRow(values: readonly (string | null)[]): Buffer {
  const message = new MessageBuilder(256).begin(fromServer.dataRow).int16(values.length);
  for (const value of values) message.value(value);
  return message.end().take();
}

/** @param tag for example `SELECT 3` */
export function commandComplete(tag: string): Buffer {
  return new MessageBuilder().begin(fromServer.commandComplete).text(tag).end().take();
}

export function emptyQueryResponse(): Buffer {
  return empty(fromServer.emptyQuery);
}

// Client to server

export function query(sql: Text): Buffer {
  return new MessageBuilder(256).begin(fromClient.query).text(sql).end().take();
}

/** @param parameterTypes OIDs; 0 or left out = the server infers it */
export function parse(name: Text, sql: Text, parameterTypes: readonly number[] = []): Buffer {
  const message = new MessageBuilder(256).begin(fromClient.parse).text(name).text(sql);
  message.int16(parameterTypes.length);
  for (const type of parameterTypes) message.int32(type);
  return message.end().take();
}

/** Parameters and results in text format. */
export function bind(portal: Text, statement: Text, parameters: readonly (Text | null)[] = []): Buffer {
  const message = new MessageBuilder(256).begin(fromClient.bind).text(portal).text(statement).int16(0);
  message.int16(parameters.length);
  for (const value of parameters) message.value(value);
  return message.int16(0).end().take();
}

export type Named = "statement" | "portal";

function named(type: number, kind: Named, name: Text): Buffer {
  const letter = kind === "statement" ? "S" : "P";
  return new MessageBuilder().begin(type).byte(letter.charCodeAt(0)).text(name).end().take();
}

export function describe(kind: Named, name: Text): Buffer {
  return named(fromClient.describe, kind, name);
}

export function close(kind: Named, name: Text): Buffer {
  return named(fromClient.close, kind, name);
}

/** @param rows 0 = all */
export function execute(portal: Text, rows = 0): Buffer {
  return new MessageBuilder().begin(fromClient.execute).text(portal).int32(rows).end().take();
}

export function sync(): Buffer {
  return empty(fromClient.sync);
}

export function flush(): Buffer {
  return empty(fromClient.flush);
}

export function terminate(): Buffer {
  return empty(fromClient.terminate);
}

/** A password in clear, or an md5 answer. */
export function passwordMessage(password: Text): Buffer {
  return new MessageBuilder().begin(fromClient.password).text(password).end().take();
}

export function saslInitialResponse(mechanism: string, data: Text): Buffer {
  return new MessageBuilder(256).begin(fromClient.password).text(mechanism).value(data).end().take();
}

export function saslResponse(data: Text): Buffer {
  return new MessageBuilder(256).begin(fromClient.password).bytes(data).end().take();
}
