import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Fault } from "../../values/fault.ts";
import { TarReader, type TarEvent, type TarMember } from "./tar-reader.ts";

interface Entry {
  readonly path: string;
  readonly flag: "0" | "5" | "2";
  readonly content: Buffer;
  readonly target?: string;
  readonly announced?: number;
  readonly base256?: boolean;
}

function header(entry: Entry): Buffer {
  const block = Buffer.alloc(512);
  const size = entry.announced ?? entry.content.length;
  block.write(entry.path, 0, "utf8");
  block.write("0000600 ", 100, "latin1");
  if (entry.base256 === true) {
    block.writeUInt8(0x80, 124);
    block.writeBigUInt64BE(BigInt(size), 128);
  } else block.write(`${size.toString(8).padStart(11, "0")} `, 124, "latin1");
  block.write(`${(1_700_000_000).toString(8)} `, 136, "latin1");
  block.write(entry.flag, 156, "latin1");
  block.write(entry.target ?? "", 157, "utf8");
  block.write("ustar\0" + "00", 257, "latin1");
  block.write("        ", 148, "latin1");
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return block;
}

function archive(entries: readonly Entry[], end: boolean): Buffer {
  const blocks = entries.flatMap((entry) => [
    header(entry),
    entry.content,
    Buffer.alloc((512 - (entry.content.length % 512)) % 512),
  ]);
  return Buffer.concat(end ? [...blocks, Buffer.alloc(1024)] : blocks);
}

interface Seen {
  readonly member: TarMember;
  readonly content: string;
  readonly ended: boolean;
}

function read(bytes: Buffer, cuts: readonly number[]): Seen[] {
  const reader = new TarReader();
  const seen: { member: TarMember; parts: Buffer[]; ended: boolean }[] = [];
  const take = (event: TarEvent): void => {
    const last = seen.at(-1);
    if (event.kind === "member") seen.push({ member: event.member, parts: [], ended: false });
    else if (event.kind === "data") last?.parts.push(Buffer.from(event.bytes));
    else if (last !== undefined) last.ended = true;
  };
  const places = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  let from = 0;
  for (const place of [...places, bytes.length]) {
    for (const event of reader.push(bytes.subarray(from, place))) take(event);
    from = place;
  }
  reader.finish();
  return seen.map(({ member, parts, ended }) => ({
    member,
    content: Buffer.concat(parts).toString("hex"),
    ended,
  }));
}

const entry: fc.Arbitrary<Entry> = fc.oneof(
  fc.record({
    path: fc.stringMatching(/^[a-z0-9_]{1,20}(\/[a-z0-9_.]{1,20}[a-z]){0,3}$/),
    flag: fc.constant("0" as const),
    content: fc.uint8Array({ maxLength: 2000 }).map((bytes) => Buffer.from(bytes)),
    base256: fc.boolean(),
  }),
  fc.record({
    path: fc.stringMatching(/^[a-z0-9_]{1,20}\/$/),
    flag: fc.constant("5" as const),
    content: fc.constant(Buffer.alloc(0)),
  }),
  fc.record({
    path: fc.stringMatching(/^pg_tblspc\/[0-9]{1,8}$/),
    flag: fc.constant("2" as const),
    content: fc.constant(Buffer.alloc(0)),
    target: fc.stringMatching(/^\/[a-z]{1,30}$/),
  }),
);

const kinds = { "0": "file", "5": "directory", "2": "link" } as const;

describe("reading a tar archive", () => {
  test("gives the same members and bytes however the stream is cut", () => {
    fc.assert(
      fc.property(
        fc.array(entry, { maxLength: 8 }),
        fc.array(fc.nat(), { maxLength: 40 }),
        fc.boolean(),
        (entries, cuts, end) => {
          const seen = read(archive(entries, end), cuts);
          expect(seen.map(({ member }) => [member.kind, member.path, member.target])).toEqual(
            entries.map(({ flag, path, target = "" }) => [kinds[flag], path.replace(/\/$/, ""), target]),
          );
          expect(seen.map(({ content }) => content)).toEqual(
            entries.map(({ content }) => content.toString("hex")),
          );
          expect(seen.every(({ member, ended }) => ended === (member.kind === "file"))).toBe(true);
        },
      ),
    );
  });

  test("takes mode, time and sizes past 8 GiB", () => {
    const reader = new TarReader();
    const big = 9 * 2 ** 33;
    const block = header({ path: "a", flag: "0", content: Buffer.alloc(0), announced: big, base256: true });
    const [first] = [...reader.push(block)];
    expect(first).toEqual({
      kind: "member",
      member: { kind: "file", path: "a", bytes: big, mode: 0o600, modifiedAt: 1_700_000_000, target: "" },
    });
    expect(() => reader.finish()).toThrow(Fault);
  });

  test.each([
    ["a header with another checksum", (tar: Buffer) => tar.fill(0x41, 0, 1)],
    ["half a header", (tar: Buffer) => tar.subarray(0, 300)],
    ["half a file", (tar: Buffer) => tar.subarray(0, 600)],
    ["an unknown kind", () => header({ path: "a", flag: "7" as "0", content: Buffer.alloc(0) })],
    ["a path out of the directory", () => header({ path: "a/../../b", flag: "0", content: Buffer.alloc(0) })],
    ["an absolute path", () => header({ path: "/etc/passwd", flag: "0", content: Buffer.alloc(0) })],
    [
      "a member behind the end",
      () => Buffer.concat([Buffer.alloc(1024), header({ path: "a", flag: "0", content: Buffer.alloc(0) })]),
    ],
  ])("refuses %s", (_what, spoil) => {
    const tar = archive([{ path: "base/1/2", flag: "0", content: Buffer.alloc(700, 1) }], true);
    expect(() => read(spoil(tar), [])).toThrow("is no base backup");
  });
});
