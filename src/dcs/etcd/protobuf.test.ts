import fc from "fast-check";
import { expect, test } from "vitest";
import { MessageWriter, readFields, WireFormatError, type Field } from "./protobuf.ts";

function fieldsOf(message: Buffer): Field[] {
  const fields: Field[] = [];
  readFields(message, (field) => fields.push(field));
  return fields;
}

test("the encoding is that of the specification's own examples", () => {
  expect(new MessageWriter().integer(1, 150).finish().toString("hex")).toBe("089601");
  expect(new MessageWriter().text(2, "testing").finish().toString("hex")).toBe("120774657374696e67");
  const embedded = new MessageWriter().message(3, new MessageWriter().integer(1, 150));
  expect(embedded.finish().toString("hex")).toBe("1a03089601");
});

test("fields with default values are left out, empty messages are not", () => {
  expect(new MessageWriter().integer(1, 0).integer(2, false).text(3, "").finish()).toHaveLength(0);
  expect(new MessageWriter().message(3, new MessageWriter()).finish().toString("hex")).toBe("1a00");
});

test("whatever is written is read back", () => {
  const number = fc.integer({ min: 1, max: 2000 });
  const integers = fc.tuple(number, fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }));
  const texts = fc.tuple(number, fc.string({ minLength: 1, unit: "grapheme" }));
  fc.assert(
    fc.property(fc.array(fc.oneof(integers, texts)), (fields) => {
      const writer = new MessageWriter();
      for (const [field, value] of fields)
        if (typeof value === "number") writer.integer(field, value);
        else writer.text(field, value);
      const read = fieldsOf(writer.finish());
      expect(read.map((field) => field.number)).toEqual(fields.map(([field]) => field));
      for (const [index, [, value]] of fields.entries())
        expect(typeof value === "number" ? read[index]?.integer : read[index]?.bytes.toString("utf8")).toBe(
          value,
        );
    }),
  );
});

test("fields of kinds that are not used are skipped", () => {
  const bytes = Buffer.from("0d01020304" + "110102030405060708" + "089601", "hex");
  expect(fieldsOf(bytes)).toMatchObject([{ number: 1, integer: 150 }]);
});

test("no bytes make the reader fail otherwise than with a WireFormatError", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      try {
        fieldsOf(Buffer.from(bytes));
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(WireFormatError);
      }
    }),
  );
  expect(() => fieldsOf(Buffer.from("12077465", "hex"))).toThrow(WireFormatError);
  expect(() => fieldsOf(Buffer.from("08ff", "hex"))).toThrow(WireFormatError);
  expect(() => fieldsOf(Buffer.from("0b", "hex"))).toThrow(WireFormatError);
});
