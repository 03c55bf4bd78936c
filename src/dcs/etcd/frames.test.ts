import fc from "fast-check";
import { expect, test } from "vitest";
import { frame, FrameReader } from "./frames.ts";
import { WireFormatError } from "./protobuf.ts";

test("messages come out whole however the bytes were cut", () => {
  const messages = fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 6 });
  fc.assert(
    fc.property(messages, fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1 }), (sent, cuts) => {
      const bytes = Buffer.concat(sent.map((message) => frame(Buffer.from(message))));
      const reader = new FrameReader();
      const received: Buffer[] = [];
      for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
        const length = cuts[turn % cuts.length] ?? 1;
        received.push(...reader.push(bytes.subarray(at, at + length)));
        at += length;
      }
      expect(received.map((message) => [...message])).toEqual(sent.map((message) => [...message]));
    }),
  );
});

test("a compressed message is refused, since none was asked for", () => {
  expect(() => new FrameReader().push(Buffer.from([1, 0, 0, 0, 0]))).toThrow(WireFormatError);
});

test("a message beyond the limit is refused before it is received", () => {
  expect(() => new FrameReader().push(Buffer.from([0, 0xff, 0xff, 0xff, 0xff]))).toThrow(/more than/);
});
