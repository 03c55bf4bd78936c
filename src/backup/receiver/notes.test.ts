import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openStateFiles, type StateFiles } from "../../agent/state-files.ts";
import { lsnFromBytes } from "../../values/lsn.ts";
import type { FencingToken, Timeline } from "../../values/names.ts";
import { Deliveries } from "./deliveries.ts";
import { LiveDirectory } from "./live-directory.ts";
import { NoteBook, type UntoldNote } from "./notes.ts";
import type { ReceiverReport } from "./protocol.ts";

const partial = "000000010000000000000003";

function noteOf(kind: UntoldNote["kind"], id: string): UntoldNote {
  const range = { startLsn: lsnFromBytes(0x300_0000n), endLsn: lsnFromBytes(0x300_1000n) };
  return { kind, id, timeline: 1 as Timeline, ...range, token: 4 as FencingToken, reason: "left" };
}

let dir: string;
let files: StateFiles;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "pgherd-notes-"));
  files = await openStateFiles(dir);
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe("the notes of a receiver", () => {
  it("are as before when they could not be written", async () => {
    let isFull = true;
    const write: StateFiles["write"] = (name, text) =>
      isFull ? Promise.reject(new Error("no space")) : files.write(name, text);
    const notes = await NoteBook.open({ ...files, write, read: (name) => files.read(name) });
    await expect(notes.add(noteOf("gap", "a"))).rejects.toThrow("no space");
    expect(notes.notes.untold).toEqual([]);
    isFull = false;
    await notes.add(noteOf("gap", "b"));
    expect((await NoteBook.open(files)).notes.untold.map(({ id }) => id)).toEqual(["b"]);
  });

  it("keep both of two that come at once", async () => {
    const notes = await NoteBook.open(files);
    await Promise.all([notes.add(noteOf("gap", "a")), notes.add(noteOf("orphan", "b"))]);
    await notes.told("a");
    expect((await NoteBook.open(files)).notes.untold).toEqual([noteOf("orphan", "b")]);
  });
});

describe("WAL that is put aside", () => {
  const begin = async (): Promise<{ readonly told: ReceiverReport[]; readonly deliveries: Deliveries }> => {
    const told: ReceiverReport[] = [];
    const notes = await NoteBook.open(files);
    const deliveries = new Deliveries(await LiveDirectory.open(dir), notes, (report) => told.push(report));
    await deliveries.begin([], null);
    return { told, deliveries };
  };

  it("is told of again after a kill", async () => {
    writeFileSync(join(dir, `${partial}.partial`), "wal");
    const before = await begin();
    await before.deliveries.orphan(partial, noteOf("orphan", "o1"));
    const { told } = await begin();
    expect(told).toMatchObject([{ kind: "orphan", id: "o1", path: join(dir, "aside-o1"), token: 4 }]);
  });

  it("is no orphan yet when the kill came before it was moved", async () => {
    writeFileSync(join(dir, `${partial}.partial`), "wal");
    await (await NoteBook.open(files)).add(noteOf("orphan", "o1"));
    expect((await begin()).told).toEqual([]);
    expect((await NoteBook.open(files)).notes.untold).toEqual([]);
    expect(readdirSync(dir)).toContain(`${partial}.partial`);
  });
});
