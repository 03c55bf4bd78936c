/**
 * The shapes of the API's own paths: requests are checked against them, replies are described by them (and tests hold the
 * real replies against them). Names are in snake_case, WAL positions are texts such as `0/3000060`.
 */
import { z } from "zod";
import { eventNames } from "../../cluster/decision.ts";
import { nodeStates } from "../../cluster/records.ts";
import { faultCatalogue, type FaultCode } from "../../values/fault.ts";
import { archiveLine, ballot } from "./schemas-archives.ts";
import { planSessions, routerLine } from "./schemas-routers.ts";

const scalar = z.union([z.string(), z.number(), z.boolean()]);
const lsn = z
  .string()
  .regex(/^[0-9A-F]+\/[0-9A-F]+$/)
  .nullable();
const time = z.string().meta({ description: "ISO 8601 with offset" });
const operation = z
  .strictObject({
    kind: z.string(),
    step: z.string(),
    doneBytes: z.number().nullable(),
    totalBytes: z.number().nullable(),
    startedAt: time,
  })
  .nullable();
const problem = z
  .strictObject({
    code: z.string(),
    message: z.string(),
    detail: z.string().nullable(),
    hint: z.string().nullable(),
  })
  .nullable();
const role = z.enum(["primary", "standby"]);

export const fault = z.strictObject({
  code: z.enum(Object.keys(faultCatalogue) as [FaultCode, ...FaultCode[]]),
  message: z.string().meta({ description: "What happened" }),
  detail: z.string().nullable().meta({ description: "The facts" }),
  hint: z.string().nullable().meta({ description: "What to do next" }),
});

const nodeStatus = z.strictObject({
  name: z.string(),
  host: z.string(),
  port: z.number(),
  api_url: z.string(),
  role,
  state: z.enum(nodeStates),
  timeline: z.number().nullable(),
  lsn,
  lag_bytes: z.number().nullable().meta({ description: "Behind the leader; null = unknown" }),
  replay_lag_bytes: z.number().nullable().meta({ description: "Received, not yet replayed; null = unknown" }),
  sync: z.boolean(),
  upstream: z.string().nullable(),
  location: z.string().nullable(),
  tags: z.record(z.string(), scalar),
  pending_restart: z.boolean(),
  pending_restart_parameters: z.array(z.string()),
  operation,
  problem,
  unexpected_primary: z.boolean().meta({ description: "Runs as primary without holding the lease" }),
  server_version: z.number().nullable(),
  agent_version: z.string(),
  since: time,
  heard_s: z.number().nullable().meta({ description: "Seconds since the node was last heard" }),
});

export const status = z.strictObject({
  cluster: z.string(),
  health: z.enum(["ok", "degraded", "down"]),
  durability: z.strictObject({
    mode: z.string(),
    protected: z.boolean(),
    members: z.array(z.string()),
    required: z.number(),
    exposed_bytes: z.number().nullable(),
    exposed_s: z.number().nullable(),
  }),
  timeline: z.number().nullable(),
  token: z.number().nullable(),
  leader: z.string().nullable(),
  leader_since: time.nullable(),
  paused: z.boolean(),
  failover: z.enum(["automatic", "manual"]),
  system_identifier: z.string().nullable(),
  dcs_reachable: z.boolean(),
  failsafe: z.boolean().meta({
    description: "The leader cannot renew its lease, and goes on because every registered node grants it",
  }),
  dcs_age_s: z.number().nullable(),
  attention: z.array(z.string()),
  scheduled_switchover: z
    .strictObject({ at: time, from: z.string().nullable(), to: z.string().nullable() })
    .nullable(),
  nodes: z.array(nodeStatus),
  routers: z.array(routerLine),
  archives: z.array(archiveLine),
});

const record = z.strictObject({
  name: z.string(),
  node_id: z.string(),
  incarnation: z.string(),
  agent_id: z.string(),
  sequence: z.number(),
  agent_version: z.string(),
  host: z.string(),
  port: z.number(),
  api_url: z.string(),
  location: z.string().nullable(),
  tags: z.strictObject({
    nofailover: z.boolean(),
    noloadbalance: z.boolean(),
    clonefrom: z.boolean(),
    nosync: z.boolean(),
    replicatefrom: z.string().nullable(),
    failover_priority: z.number(),
    weight: z.number(),
    free: z.record(z.string(), scalar),
  }),
  system_identifier: z.string().nullable(),
  state: z.enum(nodeStates),
  role: role.nullable(),
  server_version: z.number().nullable(),
  timeline: z.number().nullable(),
  lsn,
  replayed_lsn: lsn,
  upstream: z.string().nullable(),
  streaming: z.boolean(),
  oldest_wal_lsn: lsn,
  pending_restart: z.array(z.string()),
  stop_ms: z.number().nullable().meta({
    description: "What ending PostgreSQL's processes took when it was measured there, in milliseconds.",
  }),
  applied_settings: z
    .number()
    .nullable()
    .meta({ description: "Version of the cluster settings in force there" }),
  ballot: ballot.meta({ description: "Its report for the coming election" }),
  promised: z.number().nullable().meta({ description: "The highest token this node has promised" }),
  suspects: z
    .number()
    .nullable()
    .meta({ description: "The token of the lease whose holder this node has lost sight of" }),
  problem,
  operation: z
    .strictObject({
      kind: z.string(),
      step: z.string(),
      done_bytes: z.number().nullable(),
      total_bytes: z.number().nullable(),
      started_at: time,
    })
    .nullable(),
  since: time,
  written_at: time,
});

const sql = z.strictObject({
  in_recovery: z.boolean(),
  system_identifier: z.string(),
  timeline: z.number(),
  lsn,
  received_lsn: lsn,
  replayed_lsn: lsn,
  replayed_at: z.string().nullable(),
  replay_paused: z.boolean(),
  wal_receiver: z
    .strictObject({
      status: z.string(),
      host: z.string().nullable(),
      port: z.number().nullable(),
      slot: z.string().nullable(),
      received_timeline: z.number().nullable(),
    })
    .nullable(),
  replication: z.array(
    z.strictObject({
      application_name: z.string(),
      client_address: z.string().nullable(),
      state: z.string(),
      sync_state: z.string(),
      sent_lsn: lsn,
      write_lsn: lsn,
      flush_lsn: lsn,
      replay_lsn: lsn,
      user_name: z.string(),
    }),
  ),
  slots: z.array(
    z.strictObject({
      name: z.string(),
      physical: z.boolean(),
      active: z.boolean(),
      restart_lsn: lsn,
      wal_status: z.string().nullable(),
    }),
  ),
  server_version: z.number(),
  pending_restart: z.array(z.string()),
  postmaster_started_at: z.string(),
  synchronous_standby_names: z.string(),
});

const disk = z.strictObject({
  kind: z.enum(["unknown", "ok", "stalled", "full", "read-only", "failing"]),
  volume: z.enum(["data", "wal"]).nullable(),
  for_ms: z.number().meta({ description: "How long it has been so" }),
  probe_ms: z.number().nullable().meta({ description: "How long the last finished write took" }),
  age_ms: z.number().nullable().meta({ description: "Since a write last ended" }),
  free_bytes: z.number().nullable(),
  reserve: z.enum(["held", "none", "freed"]),
  problem: z.string().nullable(),
});

export const node = z.strictObject({
  record: record.meta({ description: "What this node says of itself in the DCS" }),
  postgres: z.enum(["empty", "unusable", "stopped", "running"]).nullable(),
  ours: z.boolean().nullable().meta({ description: "PostgreSQL was started by this installation" }),
  postmaster_pid: z.number().nullable(),
  sql: sql.nullable().meta({ description: "What the running server says; null when it does not answer" }),
  problem: z.string().nullable(),
  disk: disk.meta({
    description: "What small flushed writes to the data and WAL volumes showed; the worse of the two",
  }),
  leads: z.boolean().meta({ description: "Holds a live lease, by its own clock" }),
  serving: z
    .strictObject({ token: z.number(), timeline: z.number(), for_ms: z.number() })
    .nullable()
    .meta({ description: "With which token it serves, and for how long if it hears nothing more" }),
  loop_age_ms: z.number(),
  dcs_age_ms: z.number().nullable(),
  dcs_reachable: z.boolean(),
  cluster_unlocked: z.boolean(),
  paused: z.boolean(),
  ttl_ms: z.number(),
  started_at: time,
});

export const history = z.array(
  z.strictObject({
    timeline: z.number().meta({ description: "The timeline that ended" }),
    fork_lsn: z.string(),
    reason: z.string(),
    at: time,
    new_timeline: z.number(),
    new_leader: z.string(),
    token: z.number(),
  }),
);

export const events = z.array(
  z.strictObject({
    at: time,
    node: z.string(),
    event: z.enum(eventNames),
    success: z.boolean(),
    message: z.string(),
    facts: z.record(z.string(), scalar.nullable()),
  }),
);

export const decisions = z.array(
  z.strictObject({
    at: time,
    node: z.string(),
    rule: z.string(),
    summary: z.string(),
    action: z.string(),
    why: z.string(),
    facts: z.record(z.string(), scalar.nullable()),
    outcome: z.strictObject({ ok: z.boolean(), ms: z.number(), message: z.string().nullable() }).nullable(),
  }),
);

export const reachability = z.array(
  z.strictObject({
    from: z.string(),
    to: z.string(),
    channel: z.enum(["api", "postgres", "replication"]),
    ok: z.boolean(),
    ms: z.number().nullable(),
    problem: z.string().nullable(),
  }),
);

const document = z.record(z.string(), z.unknown());

export const settings = z.strictObject({
  stored: document.meta({ description: "What was set" }),
  effective: document.meta({ description: "With the defaults" }),
  version: z.number(),
});

export const settingsChange = z.strictObject({
  diff: z.array(z.string()).meta({ description: "Lines such as `- ttl: 5s` and `+ ttl: 10s`" }),
  view: settings,
});

export const settingsDocument = document.meta({ description: "Cluster settings by their names" });

export const movePlan = z.strictObject({
  from: z.string().nullable(),
  to: z.string(),
  checks: z.array(z.strictObject({ name: z.string(), ok: z.boolean(), detail: z.string() })),
  steps: z.array(z.string()),
  sessions: planSessions,
});

export const moveOutcome = z.strictObject({
  id: z.string().nullable(),
  done: z.boolean().meta({ description: "false: scheduled" }),
  leader: z.string().nullable(),
  code: z.string().nullable(),
  message: z.string(),
  at: time,
});

export const moveReply = z.union([moveOutcome, movePlan]);

const nodeName = z.string().min(1).max(63);
const seconds = z.number().positive().max(86_400);

export const switchoverBody = z.strictObject({
  candidate: nodeName.nullable().default(null).meta({ description: "null = the best" }),
  leader: nodeName.nullable().default(null).meta({ description: "When given, it must be the leader" }),
  scheduled_at: z.iso.datetime({ offset: true }).nullable().default(null).meta({ description: "null = now" }),
  dry_run: z.boolean().default(false).meta({ description: "Only run the checks and tell the steps" }),
  timeout_s: seconds.default(60).meta({ description: "How long the answer waits for the end" }),
});

export const failoverBody = z.strictObject({
  candidate: nodeName.nullable().default(null),
  leader: nodeName.nullable().default(null).meta({ description: "When given, it must be the leader" }),
  accept_loss: z
    .boolean()
    .default(false)
    .meta({ description: "Promote although commits may be lost; recorded with the number of bytes" }),
  dry_run: z.boolean().default(false),
  timeout_s: seconds.default(60),
});

export const restartBody = z.strictObject({
  if_pending: z.boolean().default(false).meta({ description: "Only when a parameter waits for a restart" }),
  role: role.nullable().default(null).meta({ description: "Only when PostgreSQL has this role" }),
  timeout_s: seconds.nullable().default(null),
});

export const restartReply = z.strictObject({
  restarted: z.boolean().meta({ description: "false: a condition did not hold" }),
});

export const reloadReply = z.strictObject({ changed: z.array(z.string()), pending_restart: z.boolean() });

export const reinitBody = z.strictObject({
  from_leader: z.boolean().default(false).meta({ description: "Copy from the leader, not from a standby" }),
  dry_run: z.boolean().default(false),
});

export const reinitReply = z.strictObject({
  source: z.string().meta({ description: "The node that is copied" }),
});

export const grantBody = z.strictObject({
  holder: z.string().meta({ description: "The leader that asks" }),
  token: z.int().min(1),
  hold_ms: z.int().min(1).max(300_000).meta({ description: "For how long, in milliseconds" }),
});

export const grantReply = z.strictObject({
  node: z.string().meta({ description: "Who gave it" }),
  node_id: z.string().meta({ description: "Its installation, as in its record" }),
  token: z.number(),
});

export const nothing = z.strictObject({ done: z.boolean().meta({ description: "false: it was a dry run" }) });

const flag = z
  .enum(["true", "false"])
  .default("false")
  .transform((text) => text === "true");

export const noQuery = z.strictObject({});
export const limitQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(1000).default(50).meta({ description: "The newest so many" }),
});
export const dryRunQuery = z.strictObject({
  dry_run: flag.meta({ description: "true: say what would change, and change nothing" }),
});
export const changeQuery = dryRunQuery.extend({
  version: z.coerce
    .number()
    .int()
    .min(0)
    .optional()
    .meta({ description: "Refuse when the settings have another version by now" }),
});
