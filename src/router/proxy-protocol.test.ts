import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readProxyHeader } from "./proxy-protocol.ts";

const rest = Buffer.from("what follows");

function line(text: string): Buffer {
  return Buffer.from(`${text}\r\n`, "latin1");
}

function binary(command: number, family: number, body: readonly number[]): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(body.length);
  const start = Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1");
  return Buffer.concat([start, Buffer.from([command, family]), length, Buffer.from(body)]);
}

const ports = [0x12, 0x34, 0x13, 0x88];
const four = [192, 0, 2, 7, 10, 0, 0, 1, ...ports];
const loopback6 = [...Array<number>(15).fill(0), 1];
const six = [0x20, 0x01, 0x0d, 0xb8, ...Array<number>(11).fill(0), 7, ...loopback6, ...ports];
const mapped = [...Array<number>(10).fill(0), 0xff, 0xff, 192, 0, 2, 7, ...loopback6, ...ports];
const unix = Array<number>(216).fill(0x2f);

const good: readonly [string, Buffer, { address: string; port: number } | null][] = [
  ["version 1, IPv4", line("PROXY TCP4 192.0.2.7 10.0.0.1 4660 5000"), { address: "192.0.2.7", port: 4660 }],
  ["version 1, IPv6", line("PROXY TCP6 2001:db8::7 ::1 4660 5000"), { address: "2001:db8::7", port: 4660 }],
  ["version 1, unknown", line("PROXY UNKNOWN"), null],
  ["version 1, unknown with what is to be ignored", line("PROXY UNKNOWN a b c d"), null],
  ["version 2, IPv4", binary(0x21, 0x11, four), { address: "192.0.2.7", port: 4660 }],
  ["version 2 with TLVs", binary(0x21, 0x11, [...four, 4, 0, 2, 9, 9]), { address: "192.0.2.7", port: 4660 }],
  ["version 2, IPv6", binary(0x21, 0x21, six), { address: "2001:db8::7", port: 4660 }],
  ["version 2, IPv4 within IPv6", binary(0x21, 0x21, mapped), { address: "192.0.2.7", port: 4660 }],
  ["version 2, local", binary(0x20, 0x00, []), null],
  ["version 2, local with what is to be ignored", binary(0x20, 0x11, four), null],
  ["version 2, unspecified", binary(0x21, 0x00, []), null],
  ["version 2, unix", binary(0x21, 0x31, unix), null],
];

describe.each(good)("%s", (_, header, source) => {
  test("is read, and ends where it ends", () => {
    expect(readProxyHeader(Buffer.concat([header, rest]))).toEqual({ value: { source }, end: header.length });
  });

  test("is waited for when it is cut anywhere", () => {
    for (let length = 0; length < header.length; length += 1)
      expect(readProxyHeader(header.subarray(0, length))).toBeNull();
  });
});

test.each([
  ["a start-up message", Buffer.from([0, 0, 0, 8])],
  ["a line that begins otherwise", line("PROXI TCP4 192.0.2.7 10.0.0.1 4660 5000")],
  ["a line without end", Buffer.from(`PROXY TCP4 ${"1".repeat(200)}`)],
  ["another family", line("PROXY UDP4 192.0.2.7 10.0.0.1 4660 5000")],
  ["an address of the other family", line("PROXY TCP6 192.0.2.7 10.0.0.1 4660 5000")],
  ["a name for an address", line("PROXY TCP4 localhost 10.0.0.1 4660 5000")],
  ["a port that is none", line("PROXY TCP4 192.0.2.7 10.0.0.1 70000 5000")],
  ["a port with a sign", line("PROXY TCP4 192.0.2.7 10.0.0.1 +1 5000")],
  ["too much", line("PROXY TCP4 192.0.2.7 10.0.0.1 4660 5000 more")],
  ["too little", line("PROXY TCP4 192.0.2.7 10.0.0.1 4660")],
  ["version 3", binary(0x31, 0x11, four)],
  ["another command", binary(0x22, 0x11, four)],
  ["a datagram", binary(0x21, 0x12, four)],
  ["addresses that are cut off", binary(0x21, 0x11, four.slice(0, 11))],
  ["IPv6 addresses that are cut off", binary(0x21, 0x21, six.slice(0, 35))],
  ["a length beyond all reason", binary(0x21, 0x11, []).fill(0xff, 14, 16)],
])("refuses %s", (_, bytes) => {
  expect(() => readProxyHeader(bytes)).toThrow("PROXY header");
});

test("nothing else than a header, a wait or a refusal comes of any bytes", () => {
  const signature = Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1");
  fc.assert(
    fc.property(
      fc.constantFrom(Buffer.alloc(0), signature, Buffer.from("PROXY ")),
      fc.uint8Array({ maxLength: 300 }),
      (start, more) => {
        const bytes = Buffer.concat([start, more]);
        try {
          const found = readProxyHeader(bytes);
          if (found !== null) expect(found.end).toBeLessThanOrEqual(bytes.length);
        } catch (thrown) {
          expect((thrown as Error).name).toBe("MalformedMessage");
        }
      },
    ),
  );
});
