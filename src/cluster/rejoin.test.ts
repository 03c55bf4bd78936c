import { describe, expect, it } from "vitest";
import { lsnFromBytes, type Lsn } from "../values/lsn.ts";
import type { Timeline } from "../values/names.ts";
import { isAncestor, planRejoin, type RejoinFacts } from "./rejoin.ts";

const lsn = (bytes: number): Lsn => lsnFromBytes(BigInt(bytes));
const timeline = (value: number): Timeline => value as Timeline;
const fork = { timeline: timeline(1), endLsn: lsn(500) };

function facts(parts: Partial<RejoinFacts>): RejoinFacts {
  return {
    timeline: timeline(1),
    end: lsn(500),
    halfRewound: false,
    canRewind: true,
    leaderTimeline: timeline(2),
    leaderForks: [fork],
    leaderEnd: lsn(900),
    leaderOldest: lsn(0),
    hasArchive: false,
    ...parts,
  };
}

describe("planRejoin", () => {
  it.each<[string, Partial<RejoinFacts>, string]>([
    ["ends at the fork", {}, "follow"],
    ["goes past the fork", { end: lsn(501) }, "rewind"],
    ["goes past the fork and cannot be rewound", { end: lsn(501), canRewind: false }, "copy"],
    ["is on the leader's timeline", { timeline: timeline(2), end: lsn(900) }, "follow"],
    ["is ahead of the leader on its timeline", { timeline: timeline(2), end: lsn(901) }, "rewind"],
    ["is on a timeline the leader never had", { timeline: timeline(7) }, "rewind"],
    ["has an end that cannot be told", { end: null }, "rewind"],
    ["needs WAL the leader no longer has", { leaderOldest: lsn(600) }, "copy"],
    ["needs WAL that an archive has", { leaderOldest: lsn(600), hasArchive: true }, "follow"],
    [
      "goes past the fork, from which on the leader has none",
      { end: lsn(501), leaderOldest: lsn(600) },
      "copy",
    ],
    [
      "goes past the fork, from which on an archive has it",
      { end: lsn(501), leaderOldest: lsn(600), hasArchive: true },
      "rewind",
    ],
    ["seems to fit, but was left by a rewind halfway", { halfRewound: true }, "copy"],
    ["does not fit and was left by a rewind halfway", { halfRewound: true, end: lsn(501) }, "rewind"],
  ])("a node whose WAL %s", (_what, parts, kind) => expect(planRejoin(facts(parts)).kind).toBe(kind));
});

describe("isAncestor", () => {
  const history = { timeline: timeline(2), lsn: lsn(900), forks: [fork] };
  it.each<[number, number, boolean]>([
    [2, 900, true],
    [2, 901, false],
    [1, 500, true],
    [1, 501, false],
    [3, 1, false],
  ])("timeline %d up to %d: %s", (on, end, yes) =>
    expect(isAncestor({ timeline: timeline(on), lsn: lsn(end) }, history)).toBe(yes),
  );
});
