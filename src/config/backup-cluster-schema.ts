import { z } from "zod";
import { backupEvents } from "./backup-config.ts";
import { retention, schedule, timeZone } from "./backup-fields.ts";
import { dcsSchema } from "./dcs-schema.ts";
import { absolutePath, command, duration, flag, size, text, wholeNumber } from "./fields.ts";

const hostPort = z
  .string()
  .regex(
    /^([A-Za-z0-9][A-Za-z0-9_.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(:\d{1,5})?$/,
    "expected host or host:port",
  )
  .refine((value) => Number(/:(\d+)$/.exec(value)?.[1] ?? "5432") <= 65_535, "expected host or host:port");

const connection = z.strictObject({
  hosts: z
    .array(hostPort)
    .min(1)
    .max(16)
    .meta({
      description: "The servers of a cluster without agents, `host:port`; the primary is found among them.",
      "x-default": "the nodes of the cluster, as the DCS knows them",
    })
    .optional(),
  user: text({
    description: "A role with REPLICATION, and for named restore points and drills' assertions a superuser.",
    "x-default": "the cluster's own, of the DCS",
  })
    .max(63)
    .optional(),
  password_file: absolutePath({ description: "File that holds its password." }).optional(),
  database: text({ description: "Database for what needs SQL.", "x-default": "`postgres`" })
    .max(63)
    .optional(),
  tls: z
    .enum(["disable", "prefer", "require", "verify-full"])
    .meta({ description: "As libpq's sslmode.", "x-default": "`prefer`" })
    .optional(),
  ca_file: absolutePath({
    description: "The authority that signed the servers' certificates, PEM.",
    "x-default": "the system's",
  }).optional(),
});

const assertion = z.strictObject({
  database: text({ description: "Where it runs." }).max(63).default("postgres"),
  sql: text({ description: "A query; what is not one row with one value `true` fails the drill." }),
});

const drill = z.strictObject({
  schedule: schedule({ description: "When a restore is tried.", "x-default": "off" }).optional(),
  after_backups: wholeNumber(
    { description: "Also after every so many backups.", "x-default": "not after backups" },
    1,
    1000,
  ).optional(),
  directory: absolutePath({
    description: "Where it restores to; needs room for the whole cluster.",
    "x-default": "`<state_dir>/drills`",
  }).optional(),
  bin_dir: absolutePath({
    description: "PostgreSQL's programs of the cluster's major version.",
    "x-default": "those installed for the backup's version",
  }).optional(),
  amcheck: flag({
    description: "Look at every table and index with pg_amcheck, where it is installed.",
    "x-default": "true",
  }).optional(),
  assertions: z
    .array(assertion)
    .max(100)
    .meta({ description: "What must be true in the restored databases.", "x-default": "none" })
    .optional(),
  timeout: duration(
    { description: "A drill that takes longer fails.", "x-default": "12h" },
    { min: "10s", max: "30d" },
  ).optional(),
});

const hook = z
  .strictObject({
    events: z
      .array(z.enum(backupEvents))
      .min(1)
      .meta({ description: "Names of events (docs/reference/backup-api.md).", "x-default": "all" })
      .optional(),
    command: command({
      description:
        "The program and its arguments; facts come as PGHERD_... variables and as JSON on standard input.",
    }),
    timeout: duration(
      { description: "After this time the program is killed." },
      { min: "100ms", max: "1h" },
    ).prefault("10s"),
    required: flag({
      description: "With `events: [backup_started]`: the backup is not made when the program fails.",
    }).default(false),
  })
  .superRefine((value, context) => {
    if (value.required && value.events?.join() !== "backup_started")
      context.addIssue({
        code: "custom",
        path: ["required"],
        message: "needs events: [backup_started]; nothing else can be refused",
      });
  });

/**
 * The keys of a cluster: below `clusters.<name>`, and at the top for all of them. None has a default in the schema, so that
 * what a cluster does not say can come from the top (`backup-settings.ts` has the defaults).
 */
export const clusterKeys = {
  namespace: z
    .string()
    .regex(
      /^\/?[A-Za-z0-9_.-]{1,63}(\/[A-Za-z0-9_.-]{1,63}){0,7}\/?$/,
      "expected a name of letters, digits, _, - and .",
    )
    .transform((value) => value.replace(/^\/|\/$/g, ""))
    .meta({
      description: "First part of the cluster's keys in the DCS: `/<namespace>/<cluster>/`.",
      "x-default": "service",
    })
    .optional(),
  dcs: dcsSchema.optional(),
  connection: connection
    .meta({ description: "How PostgreSQL is reached, where the DCS does not say all of it." })
    .optional(),
  timezone: timeZone({ description: "Time zone of the schedules.", "x-default": "the host's" }).optional(),
  schedule: schedule({
    description: "When a backup is made: five fields of cron, minute hour day month weekday.",
    "x-default": "`0 2 * * *`",
  }).optional(),
  full_schedule: schedule({
    description:
      "When a backup takes over nothing from earlier ones. Every backup restores alone all the same.",
    "x-default": "off",
  }).optional(),
  verify_schedule: schedule({
    description: "When everything that is stored is read and checked.",
    "x-default": "off",
  }).optional(),
  retention: retention({
    description:
      "What is kept: `REDUNDANCY n`, or `RECOVERY WINDOW OF n DAYS`, `WEEKS` or `MONTHS` (of 31 days).",
    "x-default": "`RECOVERY WINDOW OF 2 WEEKS`",
  }).optional(),
  minimum_redundancy: wholeNumber(
    { description: "So many backups are kept whatever retention says.", "x-default": "2" },
    1,
    1000,
  ).optional(),
  maximum_age: duration(
    {
      description: "`backup check` is critical when the last backup is older.",
      "x-default": "the longest time between two runs of `schedule`, and a day",
    },
    { min: "1min", max: "3650d" },
  ).optional(),
  maximum_wal_age: duration(
    {
      description: "`backup check` is critical when WAL came last longer ago, while the primary wrote some.",
      "x-default": "10min",
    },
    { min: "1s", max: "365d" },
  ).optional(),
  from: text({
    description:
      "Where base backups come from: `standby` (the best one, else the primary), `primary`, or the name of a node.",
    "x-default": "`standby`",
  })
    .max(63)
    .optional(),
  rate_limit: size(
    { description: "Bytes a second a base backup may take.", "x-default": "no limit" },
    { min: "32kB", max: "1TB" },
  ).optional(),
  lag_limit: size(
    { description: "A base backup waits while a standby is further behind.", "x-default": "does not wait" },
    { min: "1MB", max: "1TB" },
  ).optional(),
  checkpoint: z
    .enum(["fast", "spread"])
    .meta({ description: "How the checkpoint before a base backup is written.", "x-default": "`fast`" })
    .optional(),
  receiver: flag({
    description: "Receive the WAL as it is written. false: it comes by archive_command alone.",
    "x-default": "true",
  }).optional(),
  drill: drill.meta({ description: "Restores that are made to see that they work." }).optional(),
  hooks: z
    .array(hook)
    .max(100)
    .meta({ description: "Programs that are told of events.", "x-default": "none" })
    .optional(),
} as const;

export const clusterEntry = z.strictObject(clusterKeys);

/** One cluster as the file names it, nothing derived. */
export type BackupClusterFile = z.output<typeof clusterEntry>;
