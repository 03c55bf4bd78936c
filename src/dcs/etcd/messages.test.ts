import { expect, test } from "vitest";
import { decodeRange, decodeTransaction, decodeWatch, encodeRange, encodeTransaction } from "./messages.ts";
import { MessageWriter } from "./protobuf.ts";

const header = new MessageWriter().integer(1, 77).integer(2, 5).integer(3, 42);
const pair = (key: string, value: string, version: number): MessageWriter =>
  new MessageWriter().text(1, key).integer(2, 1).integer(3, version).text(5, value);

test("a read asks for the prefix up to the key after its last one", () => {
  expect(encodeRange("/s/a/").toString("latin1")).toBe("\n\u0005/s/a/\u0012\u0005/s/a0");
});

test("an answer to a read gives keys, values and the revisions of their last changes", () => {
  const message = new MessageWriter()
    .message(1, header)
    .message(2, pair("/s/a/k", "v", 41))
    .integer(4, 1);
  const { header: read, entries } = decodeRange(message.finish());
  expect(read).toEqual({ clusterId: 77, revision: 42 });
  expect([...entries]).toEqual([["/s/a/k", { value: "v", version: 41 }]]);
});

test("a check compares the revision of the last change; a write is a put or a delete of one key", () => {
  const bytes = encodeTransaction("/s/", {
    checks: [{ key: "k", version: 7 }],
    writes: [
      { key: "k", value: "v" },
      { key: "d", value: null },
    ],
  });
  expect(bytes.toString("hex")).toBe(
    [
      "0a0a" + "1002" + "1a042f732f6b" + "3007",
      "120b" + "1209" + "0a042f732f6b" + "120176",
      "1208" + "1a06" + "0a042f732f64",
    ].join(""),
  );
});

test("a failed transaction is one without the flag", () => {
  const failed = new MessageWriter().message(1, header);
  expect(decodeTransaction(failed.finish()).succeeded).toBe(false);
  expect(decodeTransaction(failed.integer(2, true).finish()).succeeded).toBe(true);
});

test("a watch message gives its changes in order, deletions as null", () => {
  const put = new MessageWriter().message(2, pair("/s/k", "v", 42));
  const deleted = new MessageWriter().integer(1, 1).message(2, pair("/s/d", "", 42));
  const message = new MessageWriter().message(1, header).message(11, put).message(11, deleted);
  expect(decodeWatch(message.finish()).changes).toEqual([
    { key: "/s/k", revision: 42, entry: { value: "v", version: 42 } },
    { key: "/s/d", revision: 42, entry: null },
  ]);
});

test("a cancelled watch says what was compacted", () => {
  const message = new MessageWriter().message(1, header).integer(4, true).integer(5, 40).text(6, "compacted");
  expect(decodeWatch(message.finish())).toMatchObject({
    created: false,
    canceled: true,
    compactRevision: 40,
    cancelReason: "compacted",
  });
});
