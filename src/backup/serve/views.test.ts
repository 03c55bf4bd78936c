import { expect, it } from "vitest";
import type { SegmentRecord } from "../catalogue/records.ts";
import type { Lsn } from "../../values/lsn.ts";
import type { Timeline } from "../../values/names.ts";
import type { WallTime } from "../../values/time.ts";
import { missingFrom } from "./views.ts";

const timeline = 1 as Timeline;
const now = Date.UTC(2026, 10, 20, 12);
const lsn = (number: number): Lsn => BigInt(number * 16) as Lsn;

function archiveOf(numbers: readonly number[], ageMs: number) {
  const segments = numbers.map((number) => ({
    name: String(number),
    timeline,
    startLsn: lsn(number),
    endLsn: lsn(number + 1),
    archivedAt: new Date(now - ageMs).toISOString() as WallTime,
  })) as unknown as SegmentRecord[];
  return { segments: () => segments, timelines: () => [{ timeline, parent: null, forkLsn: null }] };
}

it("sees WAL behind a hole that no backup leads to, once it is no matter of order", () => {
  const restorable = { toLsn: lsn(8) };
  expect(missingFrom(archiveOf([5, 6, 7], 120_000), restorable, now)).toBeNull();
  expect(missingFrom(archiveOf([5, 6, 7, 9], 120_000), restorable, now)).toBe(lsn(8));
  expect(missingFrom(archiveOf([5, 6, 7, 9], 5_000), restorable, now)).toBeNull();
  expect(missingFrom(archiveOf([5, 6, 7, 9], 120_000), null, now)).toBeNull();
});
