import { z } from "zod";
import { recoveryPhases } from "../../cluster/records.ts";

const target = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.enum(["latest", "immediate"]) }),
  z.strictObject({ kind: z.literal("time"), time: z.iso.datetime({ offset: true }) }),
  z.strictObject({ kind: z.literal("lsn"), lsn: z.string().regex(/^[0-9A-Fa-f]{1,8}\/[0-9A-Fa-f]{1,8}$/) }),
  z.strictObject({ kind: z.literal("xid"), xid: z.int().min(3).max(4_294_967_295) }),
  z.strictObject({ kind: z.literal("name"), name: z.string().min(1).max(63) }),
]);

/** Which state is wanted. */
const stateBody = {
  backup: z.string().min(1).max(128).nullable().default(null),
  target: target.default({ kind: "latest" }),
  inclusive: z.boolean().default(true),
  timeline: z.int().min(1).max(4_294_967_295).nullable().default(null),
  jobs: z.int().min(1).max(64).default(4),
  dry_run: z.boolean().default(false),
} as const;

const path = z
  .string()
  .max(4096)
  .regex(/^\/[^\0]*$/, "expected an absolute path");

export const restoreBody = z.strictObject({
  ...stateBody,
  dir: path,
  tablespaces: z.record(z.string().max(4096), path).default({}),
  tablespaces_below: path.nullable().default(null),
  delta: z.boolean().default(false),
  verify: z.boolean().default(false),
  start: z
    .strictObject({
      port: z.int().min(1).max(65_535).nullable().default(null),
      listen: z.string().max(256).default("localhost"),
    })
    .nullable()
    .default(null),
});

const step = z.strictObject({
  step: z.string(),
  done: z.number().nullable(),
  total: z.number().nullable(),
});

const fault = z.strictObject({
  code: z.string(),
  message: z.string(),
  detail: z.string().nullable(),
  hint: z.string().nullable(),
});

/** What a restore would do. */
const summary = z.strictObject({
  backup: z.string(),
  timeline: z.number(),
  timelines: z.array(z.number()),
  stop: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
  wal_from: z.string(),
  wal_to: z.string(),
  segments: z.number(),
  wal_bytes: z.number(),
  last_transaction: z.string().nullable(),
  last_transaction_lsn: z.string().nullable(),
  destination: z.enum(["empty", "unfinished", "replaced"]),
  tablespaces: z.record(z.string(), z.string()),
  needed_bytes: z.number(),
  free_bytes: z.number(),
  estimate_ms: z.number().nullable(),
  notes: z.array(z.string()),
});

const reached = z.strictObject({
  lsn: z.string(),
  time: z.string().nullable(),
  timeline: z.number(),
  ms: z.number(),
});

const done = z.strictObject({
  backup: z.string(),
  dir: z.string(),
  files: z.number(),
  bytes: z.number(),
  written_bytes: z.number(),
  removed_files: z.number(),
  wal_segments: z.number(),
  verified: z.boolean(),
  copy_ms: z.number(),
  reached: reached.nullable(),
  server: z
    .strictObject({
      port: z.number(),
      listen: z.string(),
      socket_dir: z.string(),
      pid: z.number().nullable(),
      log: z.string(),
    })
    .nullable(),
});

export const job = z.strictObject({
  id: z.string(),
  dir: z.string(),
  state: z.enum(["running", "done", "failed", "cancelled"]),
  started_at: z.string(),
  ended_at: z.string().nullable(),
  step: step.nullable(),
  result: done.nullable(),
  fault: fault.nullable(),
});

export const restoreReply = z.union([summary, job]);
export const jobs = z.array(job);

export const recoveryBody = z.strictObject({
  ...stateBody,
  cluster: z
    .string()
    .max(200)
    .optional()
    .meta({ description: "The name of the cluster that goes back: needed for all but a dry run" }),
});

export const recoveryPlan = z.strictObject({
  node: z.string(),
  restore: summary,
  lost_bytes: z.number().nullable(),
  standbys: z.array(z.string()),
});

/** The last recovery of the whole cluster, with how far it is. */
export const recoveryPicture = z.strictObject({
  record: z.strictObject({
    id: z.string(),
    node: z.string(),
    phase: z.enum(recoveryPhases),
    target: z.string(),
    wish: z.string(),
    timeline: z.number(),
    started_at: z.string(),
    updated_at: z.string(),
    reached: z
      .strictObject({ lsn: z.string(), time: z.string().nullable(), timeline: z.number() })
      .nullable(),
    left: z.strictObject({ timeline: z.number(), lsn: z.string(), bytes: z.number() }).nullable(),
    problem: fault.nullable(),
  }),
  step: step.nullable(),
});

export const recoveryReply = z.union([recoveryPlan, recoveryPicture]);
