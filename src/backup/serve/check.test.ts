import { expect, test } from "vitest";
import type { DrillRecord } from "../catalogue/records.ts";
import type { BackupView, ClusterBackupStatus } from "../service.ts";
import type { Lsn } from "../../values/lsn.ts";
import { checkCluster, type CheckInput } from "./check.ts";

const now = Date.UTC(2026, 10, 21, 12);
const dayMs = 86_400_000;
const ago = (ms: number): string => new Date(now - ms).toISOString();

const status = {
  cluster: "shop",
  receiver: { state: "streaming", source: "db1", heardMs: 5, pending: 0, problem: null },
  problem: null,
  lastBackup: { id: "20261121T020000-i1", startedAt: ago(dayMs / 2), endedAt: ago(dayMs / 2) } as BackupView,
  lastDrill: { backup: "20261121T020000-i1", endedAt: ago(dayMs), passed: true } as DrillRecord,
  backups: 3,
  minimumRedundancy: 2,
  restorable: { holes: [] },
  gaps: 0,
  orphans: 0,
} as unknown as ClusterBackupStatus;

const well: CheckInput = {
  status,
  maximumAgeMs: 2 * dayMs,
  maximumWalAgeMs: 600_000,
  drillExpected: true,
  receiverExpected: true,
  lastWalAt: now - 60_000,
  failedBackups: 0,
  freeBytes: 1e12,
  daysLeft: null,
  damage: [],
  missingFrom: null,
  now,
};

const levels = (change: Partial<CheckInput>): Readonly<Record<string, string>> =>
  Object.fromEntries(
    checkCluster({ ...well, ...change })
      .filter(({ level }) => level !== "ok")
      .map(({ name, level }) => [name, level]),
  );
const withStatus = (change: object): Partial<CheckInput> => ({ status: { ...status, ...change } });
const receiver = (change: object): Partial<CheckInput> =>
  withStatus({ receiver: { ...status.receiver, ...change } });

test("all is well", () => {
  expect(levels({})).toEqual({});
});

test.each<[string, Partial<CheckInput>, Record<string, string>]>([
  ["no backup", withStatus({ lastBackup: null }), { backup: "critical" }],
  ["an old backup", { maximumAgeMs: dayMs / 4 }, { backup: "critical" }],
  ["too few backups", withStatus({ backups: 1 }), { redundancy: "warning" }],
  ["a failed backup", { failedBackups: 2 }, { failures: "warning" }],
  ["no receiver", withStatus({ receiver: null }), { receiver: "critical" }],
  ["no receiver, none wanted", { ...withStatus({ receiver: null }), receiverExpected: false }, {}],
  ["a silent stream", receiver({ heardMs: 60_000 }), { receiver: "warning" }],
  ["a stream that fails", receiver({ state: "failing" }), { receiver: "critical" }],
  ["a receiver that promised", receiver({ state: "promised" }), { receiver: "warning" }],
  ["segments that pile up", receiver({ pending: 9 }), { archive: "warning" }],
  ["old WAL, but a stream that has all", { lastWalAt: now - dayMs }, {}],
  [
    "old WAL and no stream",
    { ...receiver({ state: "connecting" }), lastWalAt: now - dayMs },
    { archive: "critical", receiver: "warning" },
  ],
  ["no WAL at all", { lastWalAt: null }, { archive: "warning" }],
  ["orphans", withStatus({ orphans: 1 }), { lineage: "warning" }],
  ["times that cannot be restored", withStatus({ restorable: { holes: [{}] } }), { lineage: "warning" }],
  ["a gap closed by a later backup", withStatus({ gaps: 1 }), {}],
  [
    "a restore that failed",
    withStatus({ lastDrill: { ...status.lastDrill, passed: false } }),
    { proof: "critical" },
  ],
  ["never proven", withStatus({ lastDrill: null }), { proof: "warning" }],
  ["never proven, not asked for", { ...withStatus({ lastDrill: null }), drillExpected: false }, {}],
  ["a hole behind what can be restored", { missingFrom: 0x4000000n as Lsn }, { lineage: "critical" }],
  ["damage", { damage: ["packs/aa"] }, { integrity: "critical" }],
  ["a repository that fills", { daysLeft: 3 }, { room: "warning" }],
  ["a repository that is full tomorrow", { daysLeft: 0.5 }, { room: "critical" }],
  [
    "a repository that cannot be opened",
    withStatus({ problem: { code: "BACKUP_STORE_UNREACHABLE", message: "away", detail: null, hint: null } }),
    { server: "critical" },
  ],
])("%s", (_what, change, expected) => {
  expect(levels(change)).toEqual(expected);
});

test("gives figures for graphs", () => {
  const values = checkCluster(well).flatMap(({ value }) =>
    value === null ? [] : [`${value.name}=${value.number}${value.unit}`],
  );
  expect(values).toEqual(
    expect.arrayContaining(["wal_age=60s", "backup_age=43200s", "backups=3", "proof_age=86400s"]),
  );
});
