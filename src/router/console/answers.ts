import type { BodyReader } from "../../pgwire/body-reader.ts";
import { MessageBuilder } from "../../pgwire/message-builder.ts";
import { fromServer } from "../../pgwire/message-types.ts";
import { typeOf, type Column, type Row } from "./table.ts";

/** How the columns of a result go out: 0 = as text, 1 = binary. One for all, or one for each column. */
export type Formats = readonly number[];

function formatOf(formats: Formats, index: number): number {
  return (formats.length === 1 ? formats[0] : formats[index]) ?? 0;
}

/** RowDescription with the types of the columns. */
export function columnsMessage(columns: readonly Column[], formats: Formats): Buffer {
  const message = new MessageBuilder(512).begin(fromServer.rowDescription).int16(columns.length);
  columns.forEach((column, index) => {
    const { oid, size } = typeOf(column);
    message.text(column.name).int32(0).int16(0).int32(oid).int16(size).int32(-1);
    message.int16(formatOf(formats, index));
  });
  return message.end().take();
}

/** DataRow. Text is the same in both formats. */
export function rowMessage(columns: readonly Column[], row: Row, formats: Formats): Buffer {
  const message = new MessageBuilder(256).begin(fromServer.dataRow).int16(columns.length);
  columns.forEach((column, index) => {
    const value = row[index] ?? null;
    if (value === null) message.value(null);
    else if (typeof value === "number" && formatOf(formats, index) === 1)
      message.value(binary(value, typeOf(column).size));
    else message.value(typeof value === "number" ? String(Math.trunc(value)) : value);
  });
  return message.end().take();
}

function binary(value: number, size: number): Buffer {
  const bytes = Buffer.alloc(size);
  if (size === 8) bytes.writeBigInt64BE(BigInt(Math.trunc(value)));
  else bytes.writeInt32BE(Math.max(-0x80000000, Math.min(0x7fffffff, Math.trunc(value))));
  return bytes;
}

/** A message without a body. */
export function bare(type: number): Buffer {
  return new MessageBuilder(5).begin(type).end().take();
}

/** ParameterDescription of a statement without parameters: the console's commands take none. */
export function noParameters(): Buffer {
  return new MessageBuilder().begin(fromServer.parameterDescription).int16(0).end().take();
}

/** The part of a Bind message behind its names. @throws MalformedMessage */
export function readBindTail(reader: BodyReader): { readonly parameters: number; readonly formats: Formats } {
  reader.bytes(2 * reader.count());
  const parameters = reader.count();
  for (let left = parameters; left > 0; left--) {
    const length = reader.int32();
    if (length !== -1) reader.bytes(length);
  }
  const formats: number[] = [];
  for (let left = reader.count(); left > 0; left--) formats.push(reader.count());
  reader.finish();
  return { parameters, formats };
}
