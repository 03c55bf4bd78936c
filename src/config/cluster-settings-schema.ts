import { z } from "zod";
import { duration, durationOrOff, flag, nodeName, size, wholeNumber } from "./fields.ts";
import { parameters } from "./parameters.ts";

const hbaForm =
  /^\s*(#.*|(local|host|hostssl|hostnossl|hostgssenc|hostnogssenc|include|include_if_exists|include_dir)\s+\S.*)?$/;

const hbaLine = z
  .string()
  .max(4096)
  .refine(
    (line) => hbaForm.test(line) && !line.includes("\0"),
    "expected one line of pg_hba.conf, such as: host all all 10.0.0.0/8 scram-sha-256",
  );

const reclone = z
  .strictObject({
    attempts: wholeNumber(
      {
        description:
          "How many copies of one node may fail in a row before that is reported as a problem; further ones follow at max_wait.",
      },
      1,
      100,
    ).default(3),
    wait: duration(
      { description: "The wait after the first failed copy; it doubles with each further one." },
      { min: "1s", max: "1h" },
    ).prefault("10s"),
    max_wait: duration(
      { description: "The longest wait between two copies." },
      { min: "1s", max: "1d" },
    ).prefault("10min"),
  })
  .superRefine((value, context) => {
    if (value.wait > value.max_wait)
      context.addIssue({ code: "custom", path: ["wait"], message: "is longer than reclone.max_wait" });
  });

const postgresql = z.strictObject({
  parameters: parameters({
    description:
      "PostgreSQL parameters of every node. They win over the user's own postgresql.conf; those of the node file win over them.",
  }).prefault({}),
  pg_hba: z
    .array(hbaLine)
    .max(1000)
    .nullable()
    .meta({
      description:
        "Lines of pg_hba.conf, put after those pgherd needs for itself. null = the node's own pg_hba.conf, else password logins (scram-sha-256) from everywhere.",
    })
    .default(null),
  restore_command: z
    .string()
    .min(1)
    .max(4096)
    .nullable()
    .meta({
      description:
        "Fetches WAL from an archive (PostgreSQL's restore_command, with %f and %p); the node file's wins. null = none.",
    })
    .default(null),
});

const backup = z.strictObject({
  restore: flag({
    description:
      "Standbys fetch WAL that the leader has not any more from the archive (restore_command). One of the node file or of postgresql.restore_command wins.",
  }).default(false),
  push: flag({
    description:
      "Every node also brings finished WAL segments to the archive (archive_mode always; needs a restart of PostgreSQL).",
  }).default(false),
  push_budget: size(
    {
      description:
        "How much finished WAL that the archive does not take a node keeps; beyond it the archive gets a gap, and PostgreSQL goes on.",
    },
    { min: "64MB", max: "10TB" },
  ).prefault("8GB"),
});

const lag = { min: "0B", max: "1TB" };

const settings = z.strictObject({
  ttl: duration(
    {
      description:
        "Length of the leader lease: how long a dead host can stay the leader. Renewed five times in that time. Below 5s let etcd elect its own leader faster too (`--heartbeat-interval=50 --election-timeout=500`), or its loss moves the primary.",
    },
    { min: "2s", max: "5min" },
  ).prefault("5s"),
  max_lag_on_failover: size(
    {
      description:
        "While the cluster is unprotected: a standby that is further behind the last known position of the leader is not promoted by itself. 0 = none is.",
    },
    lag,
  ).prefault("1MB"),
  maximum_lag_on_failover: size(
    { description: "Another name of max_lag_on_failover; stored under that one." },
    lag,
  ).optional(),
  durability: z
    .enum(["degrade", "strict", "async"])
    .meta({
      description:
        "What a commit waits for. degrade: for sync_standbys standbys while they are there; when none is, the cluster is recorded as unprotected before commits go on. strict: always; without enough standbys commits wait. async: for nobody; a failover may lose the last commits.",
    })
    .default("degrade"),
  sync_standbys: wholeNumber(
    { description: "How many standbys must have flushed a commit before it is acknowledged." },
    1,
    16,
  ).default(1),
  sync_order: z
    .array(nodeName({ description: "The name of a node, or of a WAL receiver of a backup server." }))
    .max(16)
    .refine((names) => new Set(names).size === names.length, "names a node twice")
    .meta({
      description:
        "Only these nodes and WAL receivers count for durability, and the first of them that are there are waited for; empty = any standby whose tags allow it, and receivers while there are too few.",
    })
    .default([]),
  suspect_after: duration(
    {
      description:
        "How long agent, PostgreSQL and WAL stream of a leader must all be silent before the synchronous standbys replace it without waiting for the end of its lease. 0 = always wait for the lease.",
    },
    { min: "0s", max: "1min" },
  ).prefault("1500ms"),
  failsafe: z
    .enum(["on", "off"])
    .meta({
      description:
        "What a leader does that cannot renew its lease because the DCS is away. on: it goes on while every registered node grants it, which promises to take nothing over meanwhile. off: it stops at its deadline.",
    })
    .default("on"),
  failover: z
    .enum(["automatic", "manual"])
    .meta({
      description:
        "automatic: a standby takes over from a dead leader. manual: the failure is detected and reported, and waits for a person.",
    })
    .default("automatic"),
  pause: flag({
    description: "Paused: nothing is started, stopped, promoted or demoted by itself.",
  }).default(false),
  switchover_drain: duration(
    {
      description:
        "How long a switchover waits, with the routers holding new transactions, for those that run to end.",
    },
    { min: "100ms", max: "5min" },
  ).prefault("3s"),
  switchover_stragglers: z
    .enum(["abort", "cancel"])
    .meta({
      description:
        "What becomes of sessions in routers that are still busy then. abort: the switchover is given up, nobody notices. cancel: they get the error 40001.",
    })
    .default("abort"),
  open_after_archive: durationOrOff(
    {
      description:
        "After a failover the routers wait this long at most for the WAL archive to catch up before clients go on; a switchover leaves nothing to catch up with. A router's file may say otherwise.",
    },
    { min: "100ms", max: "1h" },
  ).prefault("off"),
  handover_wait: duration(
    {
      description:
        "How long a leader whose PostgreSQL died waits for a standby that has everything, before it restarts in place.",
    },
    { min: "0s", max: "10s" },
  ).prefault("150ms"),
  primary_start_timeout: duration(
    { description: "How long a crashed primary may recover in place before a standby takes over." },
    { min: "0s", max: "1h" },
  ).prefault("30s"),
  disk_stall_limit: duration(
    {
      description:
        "How long a write to the leader's data or WAL volume may take before a standby takes over. 0s = a standstill is only reported.",
    },
    { min: "0s", max: "10min" },
  ).prefault("10s"),
  postgres_stall_limit: duration(
    {
      description:
        "How long the leader's PostgreSQL, once it has served, may let no session in before a standby takes over. 0s = that is not watched.",
    },
    { min: "0s", max: "10min" },
  ).prefault("10s"),
  disk_reserve: size(
    {
      description:
        "Room kept in a file on each node's WAL volume, given up when the disk is full so that PostgreSQL can start again. 0B = none.",
    },
    { min: "0B", max: "10GB" },
  ).prefault("64MB"),
  member_slots_ttl: duration(
    {
      description:
        "How long the replication slot of a node that is away is kept. Longer holds more WAL on the leader's disk; shorter means that the node must be copied anew.",
    },
    { min: "0s", max: "30d" },
  ).prefault("30min"),
  archive_slot_budget: size(
    {
      description:
        "How much WAL a node keeps for a WAL receiver of a backup server that is away or behind. Beyond it the receiver's slot is dropped: the archive then has a gap, and takes a base backup when it is back.",
    },
    { min: "64MB", max: "10TB" },
  ).prefault("8GB"),
  backup: backup.meta({ description: "What the nodes do with the archive of a backup server." }).prefault({}),
  reclone: reclone.meta({ description: "Bounds of repeated copies of one node." }).prefault({}),
  rewind: flag({
    description: "Whether pg_rewind may bring a diverged node back; false = it is copied anew.",
  }).default(true),
  history_limit: wholeNumber(
    { description: "How many finished timelines the cluster's history keeps." },
    1,
    1000,
  ).default(100),
  postgresql: postgresql.meta({ description: "PostgreSQL on every node." }).prefault({}),
});

/**
 * The settings all nodes share: stored in the DCS under `config` as JSON, holding only what somebody set. Its input side
 * is that document, its output side has every default and plain units (milliseconds, bytes).
 */
export const clusterSettingsSchema = settings.superRefine((value, context) => {
  const { durability, sync_order: order, sync_standbys: standbys } = value;
  if (durability === "async" || order.length === 0 || order.length >= standbys) return;
  // Whatever nodes there are, it could never be kept.
  const message = `names ${order.length} ${order.length === 1 ? "node" : "nodes"}, fewer than sync_standbys (${standbys})`;
  context.addIssue({ code: "custom", path: ["sync_order"], message });
});

/** Keys of Patroni's settings that pgherd does not need, each with why. */
export const needlessSettings: Readonly<Record<string, string>> = {
  loop_wait: "pgherd acts on events; there is no interval to set",
  retry_timeout: "pgherd derives its limits from ttl",
  synchronous_mode: "did you mean durability? on is degrade, with synchronous_mode_strict it is strict",
  synchronous_mode_strict: "did you mean durability: strict?",
  synchronous_node_count: "did you mean sync_standbys?",
  master_start_timeout: "did you mean primary_start_timeout?",
  use_pg_rewind: "did you mean rewind?",
  use_slots: "pgherd always uses replication slots",
};
