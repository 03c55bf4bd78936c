import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { WalWriter } from "../../../test/support/wal.ts";
import { systemTimers } from "../../system/timers.ts";
import type { Fault } from "../../values/fault.ts";
import { lsnFromBytes, type Lsn } from "../../values/lsn.ts";
import type { SystemIdentifier, Timeline } from "../../values/names.ts";
import { WalIntake } from "./intake.ts";
import { LiveDirectory, readLive } from "./live-directory.ts";
import type { ReceiverNotes } from "./notes.ts";
import { standingOf } from "./standing.ts";

const segmentBytes = 1 << 20;
const system = 42n;
const start = 3 * segmentBytes;
const noNotes: ReceiverNotes = {
  systemIdentifier: null,
  segmentBytes: null,
  tokens: [],
  resumeAt: null,
  untold: [],
};
const names = ["000000010000000000000003", "000000010000000000000004"];

describe("taking WAL in", () => {
  let dir: string;
  let live: LiveDirectory;
  let flushed: Lsn[];
  let whole: string[];
  let failed: Fault[];

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), "pgherd-intake-"));
    live = await LiveDirectory.open(join(dir, "live"));
    flushed = [];
    whole = [];
    failed = [];
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  function open(at = start): Promise<WalIntake> {
    return WalIntake.open(
      {
        live,
        segmentBytes,
        systemIdentifier: String(system) as SystemIdentifier,
        timeline: 1 as Timeline,
        forks: [],
        onFlushed: (lsn) => flushed.push(lsn),
        onSegment: (name) => whole.push(name),
        onFailed: (fault) => failed.push(fault),
        onPressure: () => undefined,
      },
      lsnFromBytes(BigInt(at)),
    );
  }

  /** Hands bytes over in pieces, and waits until all are durable. */
  async function feed(intake: WalIntake, bytes: Buffer, from: number, pieceBytes = 100_000): Promise<void> {
    for (let at = 0; at < bytes.length; at += pieceBytes)
      intake.take(lsnFromBytes(BigInt(from + at)), Buffer.from(bytes.subarray(at, at + pieceBytes)));
    await until(() => Number(intake.flushed) === from + bytes.length || failed.length > 0);
  }

  async function until(done: () => boolean): Promise<void> {
    for (let tries = 0; !done(); tries += 1) {
      if (tries > 2_000) throw new Error("it did not come");
      await systemTimers.sleep(5);
    }
  }

  function wal(bytes: number): WalWriter {
    const writer = new WalWriter(start, segmentBytes, system);
    while (writer.position < start + bytes) writer.write({ kind: "plain", bytes: 5_000 });
    return writer;
  }

  it("writes what comes, segment by segment, and tells of whole ones when they are durable", async () => {
    const writer = wal(segmentBytes + 50_000);
    const intake = await open();
    await feed(intake, writer.bytes(), start);
    await until(() => whole.length === 1);
    expect(whole).toEqual([names[0]]);
    expect(flushed.at(-1)).toBe(intake.flushed);
    expect(Number(intake.sound.lsn)).toBe(writer.position);
    const all = writer.bytes();
    expect(readFileSync(live.wholePath(names[0] ?? "")).equals(all.subarray(0, segmentBytes))).toBe(true);
    const rest = await readLive(live.path, names[1] ?? "");
    expect(rest?.subarray(0, all.length - segmentBytes).equals(all.subarray(segmentBytes))).toBe(true);
    expect(rest?.length).toBe(segmentBytes);
    await intake.close();
  });

  it("goes on behind the last whole record, in the same process and in the next", async () => {
    const writer = wal(60_000);
    const cut = writer.starts.at(-1) ?? 0;
    const intake = await open();
    await feed(intake, writer.bytes().subarray(0, cut + 100 - start), start);
    expect(Number(intake.sound.lsn)).toBe(cut);
    expect(Number(intake.flushed)).toBe(cut + 100);
    await intake.close();
    expect(intake.resume()).toBe(true);
    expect(Number(intake.end)).toBe(cut);
    await intake.close();
    const next = await open();
    expect(Number(next.end)).toBe(cut);
    await feed(next, writer.bytes().subarray(cut - start), cut);
    expect(Number(next.sound.lsn)).toBe(writer.position);
    await next.close();
  });

  it("checks a record that runs over the border also after a restart, by the segment before", async () => {
    const writer = wal(segmentBytes - 12_000);
    writer.write({ kind: "plain", bytes: 20_000 });
    const over = writer.starts.at(-1) ?? 0;
    const border = start + segmentBytes;
    expect(over).toBeLessThan(border);
    const all = writer.bytes();
    const intake = await open();
    await feed(intake, all.subarray(0, segmentBytes + 5_000), start);
    await until(() => whole.length === 1);
    await intake.close();
    const next = await open(border);
    expect(Number(next.end)).toBe(border);
    expect(Number(next.sound.lsn)).toBe(over);
    const damaged = Buffer.from(all.subarray(segmentBytes));
    damaged[10_000] = (damaged[10_000] ?? 0) ^ 1;
    expect(() => next.take(lsnFromBytes(BigInt(border)), damaged)).toThrow(
      expect.objectContaining({ code: "BACKUP_WAL_INVALID" }),
    );
    await next.close();
    const again = await open(border);
    await feed(again, all.subarray(segmentBytes), border);
    expect(Number(again.sound.lsn)).toBe(writer.position);
    await again.close();
  });

  it("finishes a segment that was ended early and of which only the zeros behind were still to come", async () => {
    const writer = wal(60_000);
    writer.write({ kind: "switch" });
    const cut = (writer.starts.at(-1) ?? 0) + 24 - start;
    const intake = await open();
    await feed(intake, writer.bytes().subarray(0, cut), start);
    expect(whole).toEqual([]);
    await intake.close();
    expect(intake.resume()).toBe(false);
    const next = await open();
    expect(Number(next.end)).toBe(start + segmentBytes);
    expect(whole).toEqual([names[0]]);
    expect(readFileSync(live.wholePath(names[0] ?? "")).equals(writer.bytes(true))).toBe(true);
    await next.close();
  });

  it("finishes such a segment at the next start too", async () => {
    const writer = wal(60_000);
    writer.write({ kind: "switch" });
    const intake = await open();
    await feed(intake, writer.bytes().subarray(0, (writer.starts.at(-1) ?? 0) + 24 - start), start);
    await intake.close();
    const standing = await standingOf(live, { ...noNotes, segmentBytes }, []);
    expect(Number(standing?.position.lsn)).toBe(start + segmentBytes);
    expect(await live.list()).toMatchObject({ whole: [names[0]], partial: [] });
  });

  it("counts what is there of a segment that begins inside a record, and receives it once more", async () => {
    const writer = wal(segmentBytes - 12_000);
    writer.write({ kind: "plain", bytes: 20_000 });
    writer.write({ kind: "plain", bytes: 3_000 });
    const all = writer.bytes();
    const file = Buffer.alloc(segmentBytes);
    all.copy(file, 0, segmentBytes);
    writeFileSync(live.partialPath(names[1] ?? ""), file);
    const intake = await open(start + segmentBytes);
    expect(Number(intake.end)).toBe(start + segmentBytes);
    expect(Number(intake.sound.lsn)).toBe(writer.position);
    await feed(intake, all.subarray(segmentBytes), start + segmentBytes);
    expect(Number(intake.sound.lsn)).toBe(writer.position);
    await intake.close();
  });

  it("refuses what does not follow, and what is damaged, and keeps what came before", async () => {
    const writer = wal(60_000);
    const intake = await open();
    expect(() => intake.take(lsnFromBytes(BigInt(start + 8_192)), writer.bytes())).toThrow(/is not right/);
    const bytes = writer.bytes();
    await feed(intake, bytes.subarray(0, 40_000), start);
    const before = intake.sound.lsn;
    const damaged = Buffer.from(bytes.subarray(40_000));
    damaged[100] = (damaged[100] ?? 0) ^ 1;
    expect(() => intake.take(lsnFromBytes(BigInt(start + 40_000)), damaged)).toThrow(/is not right/);
    await intake.close();
    const next = await open();
    expect(next.sound.lsn).toBe(before);
    await feed(next, bytes.subarray(Number(next.end) - start), Number(next.end));
    expect(Number(next.sound.lsn)).toBe(writer.position);
    await next.close();
  });

  it("says that the disk takes nothing, and acknowledges nothing then", async () => {
    const intake = await open();
    rmSync(live.path, { recursive: true });
    intake.take(lsnFromBytes(BigInt(start)), wal(60_000).bytes());
    await until(() => failed.length > 0);
    expect(failed[0]?.code).toBe("BACKUP_STORE_FAILED");
    expect(flushed).toEqual([]);
    await intake.close();
    expect(intake.resume()).toBe(false);
  });
});
