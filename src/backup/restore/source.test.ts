import { expect, it } from "vitest";
import type { SegmentRecord } from "../catalogue/records.ts";
import { catalogueOf, type RestoreSource } from "./source.ts";

it("restores from whole segments, from parts that are kept, and from what is being received", async () => {
  const named = (name: string): SegmentRecord => ({ name }) as SegmentRecord;
  const source = {
    catalogue: { backups: () => [] },
    archive: {
      segments: () => [named("3")],
      partials: () => [named("4 up to a gap")],
      timelines: () => [],
      gaps: () => [],
    },
    current: null,
    completeUntil: null,
    live: () => Promise.resolve([named("7 received")]),
  } as unknown as RestoreSource;
  const { segments } = await catalogueOf(source, { wall: () => "2026-11-21T12:00:00.000Z" as never });
  expect(segments.map(({ name }) => name)).toEqual(["3", "4 up to a gap", "7 received"]);
});
