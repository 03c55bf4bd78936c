import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Lsn } from "../../values/lsn.ts";
import type { SystemIdentifier, Timeline } from "../../values/names.ts";
import type { WallTime } from "../../values/time.ts";
import { coverageOf } from "../wal/coverage.ts";
import { newestTimeline, pathTo } from "../wal/timeline-tree.ts";
import { whyNeeded } from "./apply-retention.ts";
import type { BackupRecord, TimelineRecord } from "./records.ts";
import { planRetention, type RetentionInput, type RetentionPlan } from "./retention.ts";

const dayMs = 86_400_000;
const begin = Date.UTC(2026, 0, 1);
const segment = 16n;
const lsn = (value: bigint | number): Lsn => BigInt(value) as Lsn;
const line = (value: number): Timeline => value as Timeline;
const iso = (ms: number): WallTime => new Date(ms).toISOString() as WallTime;

function backup(id: string, at: number, more: Partial<BackupRecord> = {}): BackupRecord {
  return {
    id,
    cluster: "shop",
    kind: "full",
    parent: null,
    state: "done",
    startedAt: iso(at),
    endedAt: iso(at + 60_000),
    source: null,
    sourceRole: "primary",
    systemIdentifier: "1" as SystemIdentifier,
    serverVersion: 150_000,
    walSegmentBytes: 16,
    checksums: true,
    timeline: line(1),
    startLsn: lsn(Math.round((at - begin) / 3_600_000) * 16),
    stopLsn: lsn(Math.round((at - begin) / 3_600_000) * 16 + 8),
    stopTimeline: null,
    bytes: 1,
    storedBytes: 1,
    tablespaces: [],
    corruptPages: 0,
    corruptExamples: [],
    keep: null,
    label: null,
    error: null,
    ...more,
  };
}

const only: readonly TimelineRecord[] = [{ timeline: line(1), parent: null, forkLsn: null }];
const input = (backups: readonly BackupRecord[], more: Partial<RetentionInput> = {}): RetentionInput => ({
  policy: { kind: "window", ms: 14 * dayMs },
  minimumRedundancy: 0,
  backups,
  timelines: only,
  lastArchived: new Map([[line(1), begin + 100 * dayMs]]),
  uses: [],
  nodes: [],
  now: begin + 100 * dayMs,
  ...more,
});
const weekly = (count: number): readonly BackupRecord[] =>
  Array.from({ length: count }, (_, index) =>
    backup(`b${index}`, begin + (100 - 7 * (count - index)) * dayMs),
  );

describe("policies", () => {
  it("keeps a recovery window and the backup before it: weekly backups, two weeks", () => {
    const plan = planRetention(input(weekly(6), { minimumRedundancy: 2 }));
    // Taken 42, 35, 28, 21, 14 (just inside: it ended a minute later) and 7 days ago.
    expect([...plan.verdicts.values()]).toEqual([
      "obsolete",
      "obsolete",
      "obsolete",
      "valid",
      "valid",
      "valid",
    ]);
    expect(plan.doomed).toEqual(["b0", "b1", "b2"]);
    expect(plan.keepFrom.get(line(1))).toBe(weekly(6)[3]?.startLsn);
  });

  it("keeps so many copies", () => {
    const plan = planRetention(input(weekly(5), { policy: { kind: "redundancy", copies: 2 } }));
    expect(plan.doomed).toEqual(["b0", "b1", "b2"]);
  });

  it("never goes below minimum redundancy, and never gives the last one up", () => {
    const old = [1, 2, 3].map((day) => backup(`b${day}`, begin + day * dayMs));
    expect(planRetention(input(old, { minimumRedundancy: 3 })).doomed).toEqual([]);
    expect(planRetention(input(old, { minimumRedundancy: 0 })).doomed).toEqual(["b1", "b2"]);
  });

  it("leaves alone what is kept, taken, waited for, or read", () => {
    const [a, b, c, d, e, f] = weekly(6) as [
      BackupRecord,
      BackupRecord,
      BackupRecord,
      BackupRecord,
      BackupRecord,
      BackupRecord,
    ];
    const plan = planRetention(
      input([{ ...a, keep: "standalone" }, { ...b, keep: "full" }, c, d, e, { ...f, state: "running" }], {
        policy: { kind: "redundancy", copies: 1 },
        uses: [{ backup: c.id, timeline: line(1), fromLsn: c.startLsn }],
      }),
    );
    expect(plan.doomed).toEqual([d.id]);
    // `full` needs all WAL since; `standalone` its own only.
    expect(plan.keepFrom.get(line(1))).toBe(b.startLsn);
    expect(plan.islands).toEqual([
      { timeline: 1, startLsn: a.startLsn, endLsn: ((a.stopLsn ?? 0n) + 1n) as Lsn },
    ]);
  });

  it("gives failed ones up when a later one is done, and nothing while none is", () => {
    const [a, b, c] = weekly(3) as [BackupRecord, BackupRecord, BackupRecord];
    const failed = { ...b, state: "failed", endedAt: null } as const;
    expect(planRetention(input([failed])).doomed).toEqual([]);
    expect(planRetention(input([failed])).keepFrom.size).toBe(0);
    expect(planRetention(input([a, failed, c])).doomed).toContain(b.id);
    expect(planRetention(input([a, failed])).doomed).toEqual([]);
  });

  it("refuses by hand what is kept, read, or too few", () => {
    const all = input(weekly(2), { minimumRedundancy: 2 });
    expect(whyNeeded(all, "b0")?.reason).toContain("only 1 would be left");
    expect(whyNeeded({ ...all, minimumRedundancy: 1 }, "b0")).toBeNull();
    const kept = all.backups.map((each) => ({ ...each, keep: "full" as const }));
    expect(whyNeeded({ ...all, backups: kept }, "b1")?.hint).toContain("release b1");
  });

  it("keeps what a branch needs that was left within the window", () => {
    // Day 92: restored to day 88; timeline 2 goes on from there.
    const at = (day: number): Lsn => lsn(day * 24 * 16);
    const timelines = [...only, { timeline: line(2), parent: line(1), forkLsn: at(88) }];
    const backups = [
      backup("old", begin + 70 * dayMs),
      backup("left", begin + 90 * dayMs),
      backup("new", begin + 95 * dayMs, { timeline: line(2) }),
    ];
    const lastArchived = new Map([
      [line(1), begin + 92 * dayMs],
      [line(2), begin + 100 * dayMs],
    ]);
    const plan = planRetention(input(backups, { timelines, lastArchived }));
    expect(plan.doomed).toEqual([]);
    const later = planRetention(input(backups, { timelines, lastArchived, now: begin + 120 * dayMs }));
    expect(later.doomed).toEqual(["old", "left"]);
    // Nothing can lead to the rest of timeline 1 any more.
    expect(later.keepFrom.get(line(1))).toBeGreaterThan(at(100_000));
    expect(later.keepFrom.get(line(2))).toBe(backups[2]?.startLsn);
  });
});

it("keeps the WAL behind the end of a node, which is nowhere else when the archive alone protected it", () => {
  const backups = weekly(6);
  const [last] = backups.slice(-1);
  const keepFrom = (nodes: RetentionInput["nodes"]): Lsn | undefined =>
    planRetention(input(backups, { policy: { kind: "redundancy", copies: 1 }, nodes })).keepFrom.get(line(1));
  const from = last?.startLsn ?? lsn(0);
  expect(keepFrom([])).toBe(from);
  expect(keepFrom([{ timeline: line(1), lsn: lsn(from + 10n) }])).toBe(from);
  expect(keepFrom([{ timeline: line(1), lsn: lsn(from - 10n) }])).toBe(lsn(from - 10n));
});

/** A history of promotions and recoveries to earlier points, backups on the way, and a moment to judge it. */
const life = fc
  .record({
    forks: fc.array(fc.record({ back: fc.integer({ min: 0, max: 30 }), from: fc.nat() }), { maxLength: 6 }),
    backups: fc.array(
      fc.record({
        age: fc.integer({ min: 0, max: 60 }),
        on: fc.nat(),
        state: fc.constantFrom("done", "done", "done", "waiting", "failed", "running"),
        keep: fc.constantFrom(null, null, null, "full", "standalone"),
        used: fc.boolean(),
        long: fc.integer({ min: 1, max: 40 }),
      }),
      { maxLength: 12 },
    ),
    policy: fc.oneof(
      fc.record({ kind: fc.constant("redundancy" as const), copies: fc.integer({ min: 1, max: 4 }) }),
      fc.record({
        kind: fc.constant("window" as const),
        ms: fc.integer({ min: 1, max: 40 }).map((days) => days * dayMs),
      }),
    ),
    minimumRedundancy: fc.integer({ min: 0, max: 4 }),
  })
  .map(({ forks, backups, policy, minimumRedundancy }): RetentionInput => {
    const now = begin + 60 * dayMs;
    const timelines: TimelineRecord[] = [...only];
    // Each timeline is 2000 bytes further than where it began.
    const length = 2_000n;
    const starts = new Map([[line(1), 0n]]);
    for (const [index, fork] of forks.entries()) {
      const parent = timelines[fork.from % timelines.length]?.timeline ?? line(1);
      const start = (starts.get(parent) ?? 0n) + length - BigInt(fork.back * 30);
      const timeline = line(index + 2);
      timelines.push({ timeline, parent, forkLsn: lsn(start) });
      starts.set(timeline, start);
    }
    const records = backups.map((each, index) => {
      const timeline = timelines[each.on % timelines.length]?.timeline ?? line(1);
      const start = (starts.get(timeline) ?? 0n) + BigInt((60 - each.age) * 30);
      return backup(`b${index}`, begin + (60 - each.age) * dayMs - 120_000, {
        timeline,
        startLsn: lsn(start),
        stopLsn: lsn(start + BigInt(each.long)),
        state: each.state,
        keep: each.keep,
      });
    });
    return {
      policy,
      minimumRedundancy,
      backups: records,
      timelines,
      lastArchived: new Map(timelines.map((each) => [each.timeline, now])),
      uses: records
        .filter((_, index) => backups[index]?.used === true)
        .map(({ id, timeline, startLsn }) => ({ backup: id, timeline, fromLsn: startLsn })),
      nodes: [],
      now,
    };
  });

/** The WAL of every timeline after the plan was carried out, as segments of 16 bytes. */
function left(
  of: RetentionInput,
  plan: RetentionPlan,
): (timeline: Timeline) => { startLsn: Lsn; endLsn: Lsn }[] {
  return (timeline) => {
    const fork = of.timelines.find((each) => each.timeline === timeline)?.forkLsn ?? lsn(0);
    const keep = plan.keepFrom.get(timeline) ?? lsn(0);
    const segments = [];
    for (let at = (fork / segment) * segment; at < fork + 4_000n; at += segment) {
      const each = { timeline, startLsn: lsn(at), endLsn: lsn(at + segment) };
      const onIsland = plan.islands.some(
        (island) =>
          island.timeline === timeline && island.startLsn < each.endLsn && each.startLsn < island.endLsn,
      );
      if (each.endLsn > keep || onIsland) segments.push(each);
    }
    return segments;
  };
}

function isCovered(of: RetentionInput, plan: RetentionPlan, target: Timeline, from: Lsn, to: Lsn): boolean {
  return coverageOf(of.timelines, target, left(of, plan)).some(
    (range) => range.start <= from && to <= range.end,
  );
}

describe("whatever the history", () => {
  it("what stays can be restored with all its WAL, on every way that passes it", () => {
    fc.assert(
      fc.property(life, (of) => {
        const plan = planRetention(of);
        for (const each of of.backups) {
          if (plan.doomed.includes(each.id) || each.state === "failed") continue;
          const stop = each.stopLsn ?? each.startLsn;
          // Becomes consistent, on its own timeline.
          expect(isCovered(of, plan, each.timeline, each.startLsn, stop)).toBe(true);
          if (each.keep === "standalone" && !of.uses.some((use) => use.backup === each.id)) continue;
          for (const { timeline } of of.timelines) {
            const stretch = pathTo(of.timelines, timeline).find((part) => part.timeline === each.timeline);
            if (stretch === undefined || (stretch.to !== null && each.startLsn >= stretch.to)) continue;
            const fork = of.timelines.find((record) => record.timeline === timeline)?.forkLsn ?? lsn(0);
            const end = lsn((each.timeline === timeline ? each.startLsn : fork) + 1_000n);
            expect(isCovered(of, plan, timeline, each.startLsn, end)).toBe(true);
          }
        }
      }),
      { numRuns: 500 },
    );
  });

  it("deletes nothing that is kept, read, running, or within minimum redundancy", () => {
    fc.assert(
      fc.property(life, (of) => {
        const plan = planRetention(of);
        const used = new Set(of.uses.map((use) => use.backup));
        for (const id of plan.doomed) {
          const each = of.backups.find((record) => record.id === id);
          expect(each?.keep).toBeNull();
          expect(each?.state).not.toBe("running");
          expect(used.has(id)).toBe(false);
        }
        const current = pathTo(of.timelines, newestTimeline(of.timelines) ?? line(1));
        const onLine = of.backups.filter((each) => {
          const stretch = current.find((part) => part.timeline === each.timeline);
          const fits = stretch !== undefined && (stretch.to === null || (each.stopLsn ?? 0n) <= stretch.to);
          return each.state === "done" && fits;
        });
        const stays = onLine.filter((each) => !plan.doomed.includes(each.id));
        expect(stays.length).toBeGreaterThanOrEqual(
          Math.min(onLine.length, Math.max(1, of.minimumRedundancy)),
        );
      }),
      { numRuns: 500 },
    );
  });

  it("a window can be restored to at any of its times that could be before", () => {
    fc.assert(
      fc.property(life, fc.integer({ min: 0, max: 60 }), (of, age) => {
        if (of.policy.kind !== "window" || age * dayMs > of.policy.ms) return;
        const at = of.now - age * dayMs;
        const plan = planRetention(of);
        const current = pathTo(of.timelines, newestTimeline(of.timelines) ?? line(1));
        const could = (each: BackupRecord): boolean => {
          const stretch = current.find((part) => part.timeline === each.timeline);
          const fits = stretch !== undefined && (stretch.to === null || (each.stopLsn ?? 0n) <= stretch.to);
          return each.state === "done" && fits && Date.parse(each.endedAt ?? each.startedAt) <= at;
        };
        const before = of.backups.some(could);
        const after = of.backups.some((each) => could(each) && !plan.doomed.includes(each.id));
        expect(after).toBe(before);
      }),
      { numRuns: 500 },
    );
  });

  it("carried out, it finds nothing more to delete", () => {
    fc.assert(
      fc.property(life, (of) => {
        const plan = planRetention(of);
        const again = planRetention({
          ...of,
          backups: of.backups.filter((each) => !plan.doomed.includes(each.id)),
        });
        expect(again.doomed).toEqual([]);
      }),
      { numRuns: 300 },
    );
  });
});
