import { expect, test } from "vitest";
import { nextRun, parseRetention, scheduleProblem } from "./backup-fields.ts";
import { checkBackupFile } from "./backup-file.ts";
import { formatProblems } from "./problem.ts";

const minimal = `cluster: shop
dcs: { etcd: [10.0.0.11:2379] }
repository: /srv/pgherd
`;
const host = { name: "backup1", timeZone: "Europe/Berlin" };
const dayMs = 86_400_000;

function settingsOf(text: string, environment: Record<string, string> = {}) {
  const { settings, problems } = checkBackupFile(text, environment, "backup.yml", host);
  expect(formatProblems(problems)).toEqual([]);
  return settings!;
}

const problemsIn = (text: string): string[] =>
  formatProblems(checkBackupFile(text, {}, "backup.yml", host).problems);

test("three lines suffice; the rest derives from them", () => {
  const settings = settingsOf(minimal);
  expect(settings).toMatchObject({
    name: "archive",
    address: "backup1",
    stateDir: "/var/lib/pgherd/backup-archive",
    repository: { place: { kind: "directory", path: "/srv/pgherd" }, keyFile: null },
    copies: [],
    api: {
      url: "http://backup1:8009",
      listen: "0.0.0.0",
      tls: null,
      tokenFile: "/var/lib/pgherd/backup-archive/token",
    },
    jobs: 2,
  });
  expect(settings.clusters).toEqual([
    expect.objectContaining({
      cluster: "shop",
      namespace: "service",
      timeZone: "Europe/Berlin",
      schedule: "0 2 * * *",
      fullSchedule: null,
      verifySchedule: null,
      retention: { kind: "window", ms: 14 * dayMs },
      minimumRedundancy: 2,
      from: { kind: "standby" },
      receiver: { enabled: true },
      connection: expect.objectContaining({ hosts: null, user: null, database: "postgres" }) as unknown,
      hooks: [],
    }),
  ]);
});

test("what one of several clusters does not say holds as it is written at the top", () => {
  const { clusters } = settingsOf(`repository: /srv/pgherd
dcs: { etcd: [10.0.0.11:2379] }
retention: REDUNDANCY 3
schedule: "0 2 * * 1"
connection: { user: backup, password_file: /etc/p, database: admin }
drill: { timeout: 1h, assertions: [{ sql: select true }] }
clusters:
  shop: {}
  stock: { schedule: off, retention: RECOVERY WINDOW OF 3 DAYS, drill: { schedule: "0 6 * * 0" } }
  old: { connection: { hosts: ["10.0.1.5:5433", "[fd00::1]", db9] } }
`);
  expect(clusters.map(({ cluster, schedule, retention }) => [cluster, schedule, retention])).toEqual([
    ["shop", "0 2 * * 1", { kind: "redundancy", copies: 3 }],
    ["stock", null, { kind: "window", ms: 3 * dayMs }],
    ["old", "0 2 * * 1", { kind: "redundancy", copies: 3 }],
  ]);
  expect(clusters[1]?.drill).toMatchObject({
    schedule: "0 6 * * 0",
    timeoutMs: 3_600_000,
    assertions: [{ database: "postgres", sql: "select true" }],
  });
  // Hosts of its own: no agents there, even though the top names a DCS.
  expect(clusters[2]).toMatchObject({
    dcs: null,
    connection: {
      user: "backup",
      passwordFile: "/etc/p",
      database: "admin",
      hosts: [
        { host: "10.0.1.5", port: 5433 },
        { host: "fd00::1", port: 5432 },
        { host: "db9", port: 5432 },
      ],
    },
  });
});

test("the oldest a backup may be follows from the schedule", () => {
  const ageOf = (schedule: string): number | undefined =>
    settingsOf(`${minimal}schedule: ${schedule}\n`).clusters[0]?.maximumAgeMs;
  expect(ageOf('"0 2 * * 1"')).toBe(8 * dayMs + 3_600_000); // a week in which the clock is put back, and a day
  expect(ageOf("off")).toBe(8 * dayMs);
});

test("all mistakes at once, at their places", () => {
  expect(
    problemsIn(`cluster: shop
repositry: /srv/pgherd
schedule: 0 2 * *
retention: KEEP 3
timezone: Mars/Olympus
hooks: [{ command: [x], required: true }]
`),
  ).toEqual(
    [
      "backup.yml:2:1   repositry          unknown key; did you mean repository?",
      expect.stringMatching(/^backup.yml:3:11 {2}schedule {11}expected five fields of cron/),
      expect.stringMatching(
        /^backup.yml:4:12 {2}retention {10}expected REDUNDANCY n or RECOVERY WINDOW OF n DAYS/,
      ),
      expect.stringMatching(/^backup.yml:5:11 {2}timezone {11}expected a time zone/),
      "backup.yml:6:35  hooks[0].required  needs events: [backup_started]; nothing else can be refused",
    ].map((line) => line as string),
  );
});

test.each([
  [
    "cluster: a\nclusters: { b: {} }\ndcs: { etcd: [h] }\nrepository: /r\n",
    /cluster .*stands beside clusters/,
  ],
  ["dcs: { etcd: [h] }\nrepository: /r\n", /cluster .*required key is missing/],
  [`${minimal}copies: [/srv/pgherd]\n`, /copies.*same place/],
  ["cluster: a\nrepository: /r\n", /dcs .*names no cluster/],
  ["cluster: a\nrepository: /r\nconnection: { hosts: [h] }\n", /connection .*needs connection\.user/],
  [`${minimal}connection: { password_file: /p }\n`, /needs connection\.user/],
  [`${minimal}repository: {}\n`, /repository/],
  ["cluster: a\ndcs: { etcd: [h] }\nrepository: { path: /r, s3: { bucket: b } }\n", /names one place/],
  [`${minimal}address: 0.0.0.0\n`, /nobody can connect/],
])("refuses %j", (text, expected) => {
  expect(problemsIn(text).join("\n")).toMatch(expected);
});

test("retention in Barman's words", () => {
  expect(parseRetention("redundancy 2")).toEqual({ kind: "redundancy", copies: 2 });
  expect(parseRetention("RECOVERY  WINDOW of 2 weeks")).toEqual({ kind: "window", ms: 14 * dayMs });
  expect(parseRetention("RECOVERY WINDOW OF 1 MONTH")).toEqual({ kind: "window", ms: 31 * dayMs });
  for (const wrong of [
    "REDUNDANCY 0",
    "RECOVERY WINDOW OF 0 DAYS",
    "REDUNDANCY",
    "2 WEEKS",
    "REDUNDANCY -1",
    "",
  ])
    expect(parseRetention(wrong), wrong).toBeUndefined();
});

test("schedules: five fields that match some day, in a time zone", () => {
  expect(scheduleProblem("0 2 * * MON")).toBeNull();
  expect(scheduleProblem("0 0 31 2 *")).toBe("no day ever matches it");
  for (const wrong of ["0 0 2 * * 1", "@daily", "61 * * * *", "x", ""])
    expect(scheduleProblem(wrong), wrong).toMatch(/five fields/);
  const from = Date.UTC(2026, 10, 21);
  expect(new Date(nextRun("0 2 * * 1", "Europe/Berlin", from) ?? 0).toISOString()).toBe(
    "2026-11-23T01:00:00.000Z",
  );
  // 02:30 does not exist on the day clocks are put forward: it runs all the same, and once.
  const spring = nextRun("30 2 * * *", "Europe/Berlin", Date.UTC(2026, 2, 28, 12)) ?? 0;
  expect(new Date(spring).toISOString().slice(0, 10)).toBe("2026-03-29");
});

test("the environment wins over the file", () => {
  const { clusters } = settingsOf(minimal, { PGHERD_RETENTION: "REDUNDANCY 5", PGHERD_SCHEDULE: "off" });
  expect(clusters[0]).toMatchObject({ retention: { kind: "redundancy", copies: 5 }, schedule: null });
});
