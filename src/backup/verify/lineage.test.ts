import { describe, expect, it } from "vitest";
import { parseLsn, type Lsn } from "../../values/lsn.ts";
import type { SystemIdentifier, Timeline } from "../../values/names.ts";
import type { WallTime } from "../../values/time.ts";
import type { BackupRecord, GapRecord, SegmentRecord } from "../catalogue/records.ts";
import { coverageOf } from "../wal/coverage.ts";
import { segmentName, segmentStart } from "../wal/segment-name.ts";
import { timelineTree } from "../wal/timeline-tree.ts";
import { historyProblems, missingWal, type Lineage } from "./lineage.ts";

const size = 1_048_576;
const at = (megabytes: number): Lsn => segmentStart(BigInt(megabytes), size);
const wall = "2026-11-20T00:00:00.000Z" as WallTime;
const one = 1 as Timeline;
const two = 2 as Timeline;
const three = 3 as Timeline;

function segment(timeline: Timeline, number: number): SegmentRecord {
  return {
    name: segmentName({ timeline, number: BigInt(number) }, size),
    timeline,
    startLsn: at(number),
    endLsn: at(number + 1),
    storedBytes: 1,
    token: null,
    source: "test",
    firstCommit: null,
    lastCommit: null,
    commits: null,
    archivedAt: wall,
  };
}

/** Timeline 2 left 1 in the middle of segment 5. */
const fork = parseLsn("0/580000")!;
const line = [1, 2, 3, 4].map((number) => segment(one, number));
const newer = [5, 6, 7].map((number) => segment(two, number));

function lineage(
  segments: readonly SegmentRecord[],
  over: Partial<Pick<Lineage, "histories" | "gaps">> = {},
): Lineage {
  const histories = over.histories ?? new Map([[two, [{ timeline: one, endLsn: fork }]]]);
  const tree = timelineTree(histories, [one]);
  return {
    segmentBytes: size,
    histories,
    tree,
    segments,
    gaps: over.gaps ?? [],
    coverage: (timeline) =>
      coverageOf(tree, timeline, (of) => segments.filter((each) => each.timeline === of)),
  };
}

function backup(over: Partial<BackupRecord>): BackupRecord {
  return {
    ...{ id: "b", cluster: "c", kind: "full", parent: null, state: "done", startedAt: wall, endedAt: wall },
    ...{
      source: null,
      sourceRole: "primary",
      systemIdentifier: "1" as SystemIdentifier,
      serverVersion: 150_000,
    },
    ...{ walSegmentBytes: size, checksums: true, timeline: one, startLsn: at(1), stopLsn: at(2) },
    ...{ stopTimeline: one, bytes: 1, storedBytes: 1, tablespaces: [], corruptPages: 0, corruptExamples: [] },
    ...{ keep: null, label: null, error: null },
    ...over,
  };
}

describe("segments that should be there", () => {
  it("are all there", () => {
    expect(missingWal(lineage([...line, ...newer]), [backup({})])).toEqual([]);
    expect(missingWal(lineage([]), [])).toEqual([]);
  });

  it("are named, with how many they are and whom they cost", () => {
    const whole = [...line, ...newer];
    const without = (...names: string[]): readonly SegmentRecord[] =>
      whole.filter(({ name }) => !names.some((end) => name.endsWith(end)));
    expect(missingWal(lineage(without("0003")), [backup({})])).toEqual([
      {
        file: "00000001/000000010000000000000003",
        detail: "it is missing: WAL from 0/300000 to 0/400000",
        backups: [],
      },
    ]);
    expect(missingWal(lineage(without("0003", "0004")), [backup({ stopLsn: at(4) })])).toMatchObject([
      { detail: "it is missing: WAL from 0/300000 to 0/400000", backups: ["b"] },
      { detail: "it and the 1 after it are missing: WAL from 0/300000 to 0/500000", backups: [] },
    ]);
    // The segment of the fork has the newer timeline's name.
    expect(missingWal(lineage(without("0005")), [backup({})])).toMatchObject([
      { file: "00000002/000000020000000000000005" },
    ]);
  });

  it("are not missed where a gap is recorded, nor before the oldest backup that is not kept by itself", () => {
    const segments = [...line.slice(0, 1), ...line.slice(2), ...newer];
    const gap: GapRecord = { timeline: one, startLsn: at(2), endLsn: at(3), reason: "x", noticedAt: wall };
    expect(missingWal(lineage(segments, { gaps: [gap] }), [backup({})])).toEqual([]);
    expect(
      missingWal(lineage(segments, { gaps: [{ ...gap, endLsn: parseLsn("0/280000")! }] }), [backup({})]),
    ).toHaveLength(1);
    expect(
      missingWal(lineage(segments), [
        backup({ keep: "standalone" }),
        backup({ id: "n", startLsn: at(3), stopLsn: at(4) }),
      ]),
    ).toEqual([]);
  });
});

describe("histories", () => {
  it("agree with each other and with the segments", () => {
    expect(historyProblems(lineage([...line, ...newer]))).toEqual([]);
  });

  it.each([
    ["that are missing", new Map(), /missing/],
    ["that name nothing", new Map([[two, []]]), /names no timeline/],
    [
      "whose timeline begins before them",
      new Map([[two, [{ timeline: one, endLsn: at(7) }]]]),
      /is before that/,
    ],
    ["of timelines that are not in order", new Map([[two, [{ timeline: three, endLsn: fork }]]]), /order/],
    [
      "that contradict their parent's",
      new Map([
        [two, [{ timeline: one, endLsn: fork }]],
        [
          three,
          [
            { timeline: one, endLsn: at(4) },
            { timeline: two, endLsn: at(8) },
          ],
        ],
      ]),
      /does not agree with 00000002.history/,
    ],
  ])("%s are found", (_, histories, says) => {
    const found = historyProblems(lineage([...line, ...newer], { histories }));
    expect(found).toHaveLength(1);
    expect(found[0]?.detail).toMatch(says);
  });
});
