import { describe, expect, it } from "vitest";
import { lsnFromBytes, type Lsn } from "../../values/lsn.ts";
import type { Timeline } from "../../values/names.ts";
import { nextStretch, timelineAt, timelineOfSegment, type LinePosition, type ServerLine } from "./line.ts";

const lsn = (value: number): Lsn => lsnFromBytes(BigInt(value));
const at = (timeline: number, end: number): LinePosition => ({
  timeline: timeline as Timeline,
  lsn: lsn(end),
});
const forks = (...list: readonly [number, number][]): ServerLine["forks"] =>
  list.map(([timeline, end]) => ({ timeline: timeline as Timeline, endLsn: lsn(end) }));
const server = (timeline: number, end: number, ...list: readonly [number, number][]): ServerLine => ({
  ...at(timeline, end),
  forks: forks(...list),
});

describe("where to go on", () => {
  const cases: readonly [
    what: string,
    own: LinePosition,
    ownForks: ServerLine["forks"],
    line: ServerLine,
    wanted: ReturnType<typeof nextStretch>,
  ][] = [
    ["the same timeline", at(1, 50), [], server(1, 70), { kind: "continue", from: at(1, 50) }],
    [
      "the same timeline, all of it here",
      at(1, 70),
      [],
      server(1, 70),
      { kind: "continue", from: at(1, 70) },
    ],
    ["a server that has less", at(1, 80), [], server(1, 70), { kind: "ahead" }],
    ["before the fork", at(1, 50), [], server(2, 90, [1, 60]), { kind: "continue", from: at(1, 50) }],
    [
      "exactly at the fork",
      at(1, 60),
      [],
      server(2, 90, [1, 60]),
      { kind: "cross", timeline: 2 as Timeline, fork: lsn(60), orphanFrom: null },
    ],
    [
      "past the fork",
      at(1, 65),
      [],
      server(2, 90, [1, 60]),
      { kind: "cross", timeline: 2 as Timeline, fork: lsn(60), orphanFrom: lsn(60) },
    ],
    [
      "three timelines behind: one at a time",
      at(1, 60),
      [],
      server(4, 99, [1, 60], [2, 70], [3, 80]),
      { kind: "cross", timeline: 2 as Timeline, fork: lsn(60), orphanFrom: null },
    ],
    [
      "a branch of its own, left before the server's",
      at(2, 75),
      forks([1, 60]),
      server(3, 90, [1, 70]),
      { kind: "cross", timeline: 1 as Timeline, fork: lsn(60), orphanFrom: lsn(60) },
    ],
    [
      "a branch of its own, left after the server's",
      at(2, 75),
      forks([1, 70]),
      server(3, 90, [1, 60]),
      { kind: "cross", timeline: 3 as Timeline, fork: lsn(60), orphanFrom: lsn(60) },
    ],
    [
      "a server still on the timeline the branch came from",
      at(2, 75),
      forks([1, 60]),
      server(1, 90),
      { kind: "cross", timeline: 1 as Timeline, fork: lsn(60), orphanFrom: lsn(60) },
    ],
  ];
  for (const [what, own, ownForks, line, wanted] of cases)
    it(what, () => expect(nextStretch(own, ownForks, line)).toEqual(wanted));
});

describe("names and pages", () => {
  const line = server(3, 100, [1, 40], [2, 64]);

  it("a segment is named after the timeline in force where it ends", () => {
    expect(timelineOfSegment(line, lsn(0), 32)).toBe(1);
    expect(timelineOfSegment(line, lsn(32), 32)).toBe(2);
    expect(timelineOfSegment(line, lsn(64), 32)).toBe(3);
    expect(timelineOfSegment(line, lsn(96), 32)).toBe(3);
  });

  it("a page is of the timeline in force where it begins", () => {
    const of = timelineAt(line.timeline, line.forks);
    expect([0, 39, 40, 63, 64, 99].map(of)).toEqual([1, 1, 2, 2, 3, 3]);
  });
});
