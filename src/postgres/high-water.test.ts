import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Clock } from "../system/clock.ts";
import { systemClock } from "../system/clock.ts";
import { systemTimers } from "../system/timers.ts";
import type { Lsn } from "../values/lsn.ts";
import type { NodeName, SystemIdentifier } from "../values/names.ts";
import { Secret } from "../values/secret.ts";
import { instantAfter, type Instant } from "../values/time.ts";
import { HighWaterNote, wentBack } from "./high-water.ts";
import { installation, type Installation } from "./options.ts";

const role = { user: "u", password: new Secret("p") };
const mark = (lsn: number, system = "7"): { systemIdentifier: SystemIdentifier; lsn: Lsn } => ({
  systemIdentifier: system as SystemIdentifier,
  lsn: BigInt(lsn) as Lsn,
});

describe("the note of how far the data has come", () => {
  let dir: string;
  let at: Installation;
  let now: Instant;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "pgherd-high-water-"));
    now = 0 as Instant;
    const clock: Clock = { ...systemClock, now: () => now };
    at = installation({
      dataDir: join(dir, "data"),
      stateDir: dir,
      binDir: "/b",
      port: 5432,
      listenAddresses: "*",
      socketDir: "/run",
      node: "n1" as NodeName,
      clusterName: "c",
      secrets: () => ({ superuser: role, replication: role, rewind: role }),
      clock,
      timers: systemTimers,
      log: () => undefined,
    });
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  test("only rises, survives the agent, and is written at most every two seconds", async () => {
    const note = new HighWaterNote(at);
    expect(await note.read()).toBeNull();
    await note.reached(mark(1_000));
    await note.reached(mark(2_000));
    expect(await note.read()).toEqual(mark(1_000));
    now = instantAfter(now, 2_000);
    await note.reached(mark(2_000));
    const again = new HighWaterNote(at);
    await again.reached(mark(1_500));
    now = instantAfter(now, 2_000);
    await again.reached(mark(1_600));
    expect(await again.read()).toEqual(mark(2_000));
    await again.forget();
    expect(await again.read()).toBeNull();
    await again.reached(mark(1_700));
    expect(await again.read()).toEqual(mark(1_700));
  });

  test("is never of a position within a record, nor of another cluster's", async () => {
    const note = new HighWaterNote(at);
    await note.reached(mark(8_192 * 3));
    expect(await note.read()).toBeNull();
    await note.reached(mark(100));
    now = instantAfter(now, 5_000);
    await note.reached(mark(500, "8"));
    expect(await note.read()).toEqual(mark(100));
  });

  test("says nothing when something else wrote it", async () => {
    writeFileSync(at.files.highWater, '{"systemIdentifier":7,"lsn":"nowhere"}');
    expect(await new HighWaterNote(at).read()).toBeNull();
    expect(readFileSync(at.files.highWater, "utf8")).toContain("nowhere");
  });
});

describe("data went back", () => {
  const unread = (): Promise<Lsn | null> => Promise.reject(new Error("WAL must not be read"));
  const ends = (lsn: number | null) => (): Promise<Lsn | null> =>
    Promise.resolve(lsn === null ? null : (BigInt(lsn) as Lsn));

  test.each([
    ["nothing noted", null, mark(5), unread, false],
    ["another cluster", mark(5), mark(9, "8"), unread, true],
    ["the control file is as far", mark(5), mark(5), unread, false],
    ["its WAL is as far", mark(5), mark(3), ends(5), false],
    ["its WAL ends before", mark(5), mark(3), ends(4), true],
    ["its WAL cannot be read", mark(5), mark(3), ends(null), true],
  ])("%s", async (_, noted, least, end, expected) => {
    expect(await wentBack(noted, least, end)).toBe(expected);
  });
});
