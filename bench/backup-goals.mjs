// What backups are to reach.

/** @type {import("./figures.mjs").Goal[]} */
export const backupGoals = [
  {
    goal: "a full backup takes no longer than pgBackRest's",
    ...{ names: ["full"], figure: "time", of: "pgherd", by: "pgbackrest", most: 1 },
  },
  {
    goal: "a full backup takes at most 0.75 x Barman's",
    ...{ names: ["full"], figure: "time", of: "pgherd", by: "barman", most: 0.75 },
  },
  {
    goal: "a full backup is stored no larger than pgBackRest's",
    ...{ names: ["full"], figure: "stored", of: "pgherd", by: "pgbackrest", most: 1 },
  },
  {
    goal: "after 1 % scattered change: at most 84 MB where pgBackRest stores 272 (0.31 x)",
    ...{ names: ["increment"], figure: "stored", of: "pgherd", by: "pgbackrest", most: 84 / 272 },
  },
  {
    goal: "a restore takes at most 0.9 x pgBackRest's",
    ...{ names: ["restore"], shape: /empty/, figure: "time", of: "pgherd", by: "pgbackrest", most: 0.9 },
  },
  {
    goal: "a restore over the same data takes no longer than pgBackRest's",
    ...{ names: ["restore"], shape: /over/, figure: "time", of: "pgherd", by: "pgbackrest", most: 1 },
  },
  {
    goal: "a commit waits at most 1.1 x as long as for pg_receivewal",
    ...{ names: ["commit"], figure: "latency", of: "pgherd", by: "pg_receivewal", most: 1.1 },
  },
  {
    goal: "commits stand still for less than 2 s when the receiver dies",
    ...{ names: ["receiver"], figure: "stall", of: "pgherd", worst: 2 },
  },
  {
    goal: "restore_command answers at least 150 times a second from its spool",
    ...{ names: ["fetch"], figure: "rate", of: "pgherd", least: 150 },
  },
  {
    goal: "the server takes at most 250 MB while it makes a full backup",
    ...{ names: ["full"], figure: "memory", of: "pgherd", most: 250 },
  },
];
