import { describe, expect, test } from "vitest";
import { parseLsn } from "../../values/lsn.ts";
import type { ReplicationEvent } from "../replication/connection.ts";
import { baseCommand } from "./base-command.ts";
import { BaseStreamReader, type BaseEvent } from "./base-stream.ts";

const position = (lsn: string, timeline: string): ReplicationEvent => ({
  kind: "result",
  columns: ["recptr", "tli"],
  rows: [[lsn, timeline]],
});
const places: ReplicationEvent = {
  kind: "result",
  columns: ["spcoid", "spclocation", "size"],
  rows: [
    ["16400", "/srv/space", "1000"],
    [null, null, "22000"],
  ],
};
const copyBegin: ReplicationEvent = { kind: "copy-begin" };
const copyEnd: ReplicationEvent = { kind: "copy-end" };
const data = (text: string): ReplicationEvent => ({ kind: "data", data: Buffer.from(text, "latin1") });

/** What is read, with bytes as text. */
function read(serverVersion: number, events: readonly ReplicationEvent[]): readonly unknown[] {
  const reader = new BaseStreamReader(serverVersion);
  return events
    .map((event) => reader.take(event))
    .filter((event) => event !== null)
    .map(shown);
}

function shown(event: BaseEvent): unknown {
  switch (event.kind) {
    case "data":
    case "manifest-data":
      return `${event.kind} ${event.bytes.toString("latin1")}`;
    case "archive":
      return `archive ${event.archive.oid} ${event.archive.location}`;
    case "manifest":
      return "manifest";
    case "started":
    case "copied":
      return event;
  }
}

const space = { oid: 16400, location: "/srv/space", estimatedBytes: 1_024_000 };
const base = { oid: 0, location: "", estimatedBytes: 22_528_000 };
const expected = [
  { kind: "started", startLsn: parseLsn("0/4000028"), timeline: 3, archives: [space, base] },
  "archive 16400 /srv/space",
  "data one",
  "archive 0 ",
  "data two",
  "data three",
  "manifest",
  "manifest-data {}",
  { kind: "copied", stopLsn: parseLsn("0/4000138"), stopTimeline: 4 },
];

describe("the answer to BASE_BACKUP", () => {
  test("of servers before 15: a COPY for each archive, one for the manifest", () => {
    const events = [
      position("0/4000028", "3"),
      places,
      ...[copyBegin, data("one"), copyEnd],
      ...[copyBegin, data("two"), data("three"), copyEnd],
      ...[copyBegin, data("{}"), copyEnd],
      position("0/4000138", "4"),
    ];
    expect(read(140_012, events)).toEqual(expected);
  });

  test("of servers from 15 on: one COPY of pieces", () => {
    const events = [
      position("0/4000028", "3"),
      places,
      copyBegin,
      ...[data("n16400.tar\0/srv/space\0"), data("done")],
      ...[data("nbase.tar\0\0"), data("p\0\0\0\0\0\0\0\x09"), data("dtwo"), data("dthree")],
      ...[data("m"), data("d{}"), copyEnd],
      position("0/4000138", "4"),
    ];
    expect(read(150_018, events)).toEqual(expected);
  });

  test.each([
    ["an archive nobody announced", [position("0/1", "1"), places, copyBegin, data("n99.tar\0\0")]],
    ["data before an archive", [position("0/1", "1"), places, copyBegin, data("dx")]],
    ["an unknown piece", [position("0/1", "1"), places, copyBegin, data("zx")]],
    ["a COPY before the list of archives", [position("0/1", "1"), copyBegin]],
    ["an end without a copy", [position("0/1", "1"), places, position("0/2", "1")]],
    ["no position", [{ ...places, rows: [["x", "y"]] } satisfies ReplicationEvent]],
  ])("is refused with %s", (_what, events) => {
    expect(() => read(150_018, events)).toThrow("BASE_BACKUP");
  });
});

describe("the command", () => {
  test("has the form of the server's version", () => {
    const options = { label: "it's", checkpoint: "fast" } as const;
    expect(baseCommand({ ...options, serverVersion: 130_020 })).toBe(
      "BASE_BACKUP LABEL 'it''s' PROGRESS FAST NOWAIT MANIFEST 'yes' MANIFEST_CHECKSUMS 'CRC32C'",
    );
    expect(baseCommand({ ...options, serverVersion: 180_000 })).toBe(
      "BASE_BACKUP (LABEL 'it''s', PROGRESS, CHECKPOINT 'fast', WAIT 0, MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C', TARGET 'client')",
    );
  });
});
