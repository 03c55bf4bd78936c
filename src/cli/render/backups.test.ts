import { expect, test } from "vitest";
import { plainLook } from "../../../test/support/cli.ts";
import type { Wire } from "../../api/wire.ts";
import type {
  BackupView,
  CheckItem,
  ClusterBackupStatus,
  Restorable,
  WalView,
} from "../../backup/service.ts";
import type { SegmentRecord } from "../../backup/catalogue/records.ts";
import type { WallTime } from "../../values/time.ts";
import { checkCode, checkLines, forecastLines, nagiosCheckLine, walLines } from "./backup-wal.ts";
import { backupLines, backupListLines, backupStatusLines, jobText, retentionText } from "./backups.ts";

const look = plainLook({ zone: "utc", nowMs: Date.parse("2026-11-20T14:00:00Z") });

const drill = {
  passed: true,
  backup: "20261120T020000-f1",
  endedAt: "2026-11-20T03:10:00.000Z",
  restoreMs: 390_000,
  replayMs: 10_000,
  target: "the latest archived WAL",
  steps: [{ name: "amcheck", passed: true, detail: "every relation", ms: 490 }],
} as unknown as Wire<BackupView>["proven"];

const backup = (over: object = {}): Wire<BackupView> =>
  ({
    id: "20261120T020000-f1",
    cluster: "shop",
    kind: "full",
    parent: null,
    state: "done",
    startedAt: "2026-11-20T02:00:00.000Z",
    endedAt: "2026-11-20T02:11:00.000Z",
    source: "db2",
    sourceRole: "standby",
    systemIdentifier: "7710604826389159594",
    serverVersion: 150_018,
    walSegmentBytes: 16_777_216,
    checksums: true,
    timeline: 9,
    startLsn: "0/4000028",
    stopLsn: "0/5000000",
    stopTimeline: 9,
    bytes: 44_238_163_968,
    storedBytes: 10_522_669_875,
    tablespaces: [],
    corruptPages: 0,
    corruptExamples: [],
    keep: null,
    label: null,
    error: null,
    walBytes: 1_181_116_006,
    proven: null,
    retention: "valid",
    ...over,
  }) as unknown as Wire<BackupView>;

const restorable = {
  from: "2026-11-06T02:04:11.000Z",
  to: "2026-11-20T13:59:59.000Z",
  toLsn: "0/9000000",
  timeline: 9,
  behindMs: 400,
  holes: [],
} as unknown as Wire<Restorable>;

test("the list fits a hundred columns and says what can be restored", () => {
  const lines = backupListLines(
    [
      backup({ proven: drill }),
      backup({
        id: "20261119T020000-i1",
        kind: "incremental",
        startedAt: "2026-11-19T02:00:00.000Z",
        storedBytes: 325_058_560,
        state: "waiting",
      }),
      backup({ id: "20261118T020000-i1", state: "failed", startedAt: "2026-11-18T02:00:00.000Z" }),
      backup({
        id: "20261101T020000-f1",
        startedAt: "2026-11-01T02:00:00.000Z",
        keep: "full",
        label: "monday",
      }),
    ],
    restorable,
    look,
  );
  expect(lines).toEqual([
    "  id                  taken                size  stored  proven       restore  notes",
    "  20261120T020000-f1  today 02:00       41.2 GB  9.8 GB  today 03:10    6 min",
    "~ 20261119T020000-i1  yesterday 02:00   41.2 GB  310 MB  -                     waits for its WAL",
    "! 20261118T020000-i1  2026-11-18 02:00        -       -  -                     failed",
    "  20261101T020000-f1  2026-11-01 02:00  41.2 GB  9.8 GB  -                     kept, monday",
    "Restorable: 2026-11-06 02:04:11 -> now (0.4 s ago), no gaps.",
  ]);
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(100);
});

test("what can be restored names the times that cannot", () => {
  const holes = [
    { after: "2026-11-10T10:00:00.000Z" as WallTime, until: "2026-11-10T12:00:00.000Z" as WallTime },
  ];
  expect(backupListLines([backup()], { ...restorable, behindMs: null, holes }, look).at(-1)).toBe(
    "Restorable: 2026-11-06 02:04:11 -> 2026-11-20 13:59:59, not between 2026-11-10 10:00:00 and 2026-11-10 12:00:00.",
  );
  expect(backupListLines([backup()], null, look).at(-1)).toBe("Restorable: nothing yet.");
  expect(backupListLines([], null, look)).toEqual(["There is no backup yet. Take one: pgherd backup run"]);
});

test("one backup, line by line", () => {
  const text = backupLines(
    backup({
      proven: drill,
      corruptPages: 2,
      corruptExamples: ["base/5/16384 block 7"],
      parent: "20261119T020000-i1",
    }),
    look,
  ).join("\n");
  expect(text).toContain("pages shared with 20261119T020000-i1");
  expect(text).toContain("2026-11-20 02:00:00, took 11 min");
  expect(text).toContain("41.2 GB, 9.8 GB of it new in the repository");
  expect(text).toContain("on, 2 pages wrong at the source: base/5/16384 block 7");
  expect(text).toContain("✓ amcheck 0.49 s  every relation");
});

const status = {
  cluster: "shop",
  receiver: {
    state: "streaming",
    source: "db1",
    timeline: 9,
    flushed: "0/9000060",
    heardMs: 400,
    pending: 0,
    problem: null,
    pid: 1,
  },
  problem: null,
  leader: "db1",
  lastBackup: backup(),
  lastDrill: drill,
  backups: 3,
  storedBytes: 12_992_276_070,
  restorable,
  gaps: 0,
  orphans: 0,
  retention: { kind: "window", ms: 14 * 86_400_000 },
  minimumRedundancy: 2,
  schedules: [{ what: "backup", pattern: "0 2 * * 1", timeZone: "UTC", next: "2026-11-21T02:00:00.000Z" }],
  jobs: [
    {
      kind: "base",
      state: "running",
      reason: "schedule",
      progress: {
        step: "copying",
        doneBytes: 41,
        totalBytes: 100,
        rate: 220_200_960,
        secondsLeft: 38,
        heldBackBy: "replication lag of db3",
      },
    },
  ],
} as unknown as Wire<ClusterBackupStatus>;

test("the status says in lines what works, what is missing and what comes next", () => {
  expect(backupStatusLines(status, look)).toEqual([
    "shop · 3 backups, 12.1 GB stored · restorable since 2026-11-06 02:04:11",
    "",
    "  receiver    streams from db1, timeline 9, at 0/9000060, heard 0.4 s ago",
    "  archive     unbroken up to 0/9000000, no gaps",
    "  last backup 20261120T020000-f1, today 02:00, 41.2 GB",
    "  proven      today 03:10 (restore 6 min), 20261120T020000-f1",
    "  retention   RECOVERY WINDOW OF 2 WEEKS, at least 2",
    "  next        backup tomorrow 02:00",
    "~ backup      copying 41 %, 210 MB/s, 38 s left, held back by replication lag of db3",
  ]);
});

test("the status of a server in trouble", () => {
  const lines = backupStatusLines(
    {
      ...status,
      receiver: { ...status.receiver, state: "failing", problem: { message: "PostgreSQL does not answer" } },
      lastBackup: null,
      lastDrill: null,
      restorable: null,
      orphans: 1,
      jobs: [],
      schedules: [],
    } as unknown as Wire<ClusterBackupStatus>,
    look,
  );
  expect(lines).toEqual([
    "shop · 3 backups, 12.1 GB stored · nothing can be restored yet",
    "",
    "! receiver    failing: PostgreSQL does not answer",
    "! archive     no backup reaches into it yet, no gaps, 1 piece of no line kept",
    "! last backup none yet",
    "  proven      no restore was tried yet (pgherd backup drill)",
    "  retention   RECOVERY WINDOW OF 2 WEEKS, at least 2",
  ]);
});

test("retention is written as it is in the file", () => {
  expect(retentionText({ kind: "redundancy", copies: 3 })).toBe("REDUNDANCY 3");
  expect(retentionText({ kind: "window", ms: 3 * 86_400_000 })).toBe("RECOVERY WINDOW OF 3 DAYS");
  expect(retentionText({ kind: "window", ms: 31 * 86_400_000 })).toBe("RECOVERY WINDOW OF 1 MONTHS");
});

test("a job that has not begun says why it was asked for", () => {
  const job = {
    ...status.jobs[0],
    state: "waiting",
    progress: null,
  } as Wire<ClusterBackupStatus>["jobs"][number];
  expect(jobText(job)).toBe("waits for a place (schedule)");
});

const items: readonly Wire<CheckItem>[] = [
  {
    name: "backup",
    level: "critical",
    text: "20261101T020000-f1 ended 19 d ago | so",
    value: { name: "backup_age", number: 1_641_600, unit: "s" },
  },
  { name: "proof", level: "warning", text: "no restore was tried yet", value: null },
  {
    name: "room",
    level: "ok",
    text: "the repository does not fill up",
    value: { name: "free", number: 7, unit: "B" },
  },
];

test("a check, for people and for Nagios", () => {
  expect(checkLines("shop", items, look)).toEqual([
    "shop: 2 items to look at",
    "! backup      critical  20261101T020000-f1 ended 19 d ago | so",
    "? proof       warning   no restore was tried yet",
    "  room        ok        the repository does not fill up",
  ]);
  expect(nagiosCheckLine("shop", items)).toBe(
    "PGHERD_BACKUP CRITICAL - shop: backup 20261101T020000-f1 ended 19 d ago / so; proof no restore was tried yet | backup_age=1641600s free=7B",
  );
  expect([items, items.slice(1), items.slice(2), []].map(checkCode)).toEqual([2, 1, 0, 0]);
});

test("a forecast says how far it goes, or that nobody knows yet", () => {
  const known = {
    freeBytes: 1e9,
    storedBytes: 1e9,
    walPerDay: 1e8,
    backupPerDay: 1e7,
    steadyBytes: null,
    daysLeft: 9.4,
    restoreSeconds: 400,
  };
  expect(forecastLines(known).at(-1)).toBe("The repository is full in about 9 days.");
  expect(forecastLines({ ...known, daysLeft: null, steadyBytes: 2e9 }).at(-1)).toBe(
    "It settles at about 1.9 GB, and there is room for that.",
  );
  expect(forecastLines({ ...known, daysLeft: null, walPerDay: null, restoreSeconds: null }).at(-1)).toBe(
    "It is too early to say how far it grows.",
  );
});

test("the archived WAL: timelines as a tree, gaps, the last segments", () => {
  const wal = {
    segments: 2,
    storedBytes: 1000,
    lastArchivedAt: null,
    timelines: [
      { timeline: 1, parent: null, forkLsn: null, archivedUpTo: "0/5000000", coverage: [] },
      { timeline: 2, parent: 1, forkLsn: "0/4F00000", archivedUpTo: null, coverage: [] },
    ],
    gaps: [
      { timeline: 1, startLsn: "0/2000000", endLsn: "0/3000000", reason: "removed\u001b[2J", noticedAt: "" },
    ],
    orphans: [],
  } as unknown as Wire<WalView>;
  const segment = {
    name: "000000010000000000000004",
    startLsn: "0/4000000",
    storedBytes: 500,
    firstCommit: null,
    lastCommit: "2026-11-20T13:00:00.000Z",
    archivedAt: "2026-11-20T13:01:00.000Z",
  } as unknown as Wire<SegmentRecord>;
  const lines = walLines(wal, [segment], look);
  expect(lines.slice(0, 5)).toEqual([
    "2 segments, 1000 B stored",
    "",
    "  timeline 1: archived up to 0/5000000",
    "    timeline 2: left 1 at 0/4F00000, nothing archived",
    expect.stringMatching(/^! gap 0\/2000000 -> 0\/3000000 on timeline 1: removed/),
  ]);
  expect(lines.join("")).not.toContain("\u001b");
  expect(lines.at(-1)).toContain("000000010000000000000004  0/4000000   500 B");
});
