import { z } from "zod";
import { Fault } from "../../values/fault.ts";
import { formatLsn, parseLsn, type Lsn } from "../../values/lsn.ts";
import {
  parseNodeName,
  parseSystemIdentifier,
  parseTimeline,
  type NodeName,
  type SystemIdentifier,
  type Timeline,
} from "../../values/names.ts";
import type { WallTime } from "../../values/time.ts";
import type { BackupRecord, DrillRecord } from "./records.ts";

/** Reads a value by a parser of ours that answers undefined. */
function parsed<In, Out>(from: z.ZodType<In>, parse: (value: In) => Out | undefined, what: string) {
  return from.transform((value, context): Out => {
    const out = parse(value);
    if (out !== undefined) return out;
    context.addIssue({ code: "custom", message: `no ${what}` });
    return z.NEVER;
  });
}

const lsn = parsed<string, Lsn>(z.string(), parseLsn, "position");
const timeline = parsed<number, Timeline>(z.number(), parseTimeline, "timeline");
const time = z.iso.datetime({ offset: true }).transform((value) => value as WallTime);
const count = z.number().min(0);

/** Newer versions may add fields: what is not known here is left out, never a reason to refuse the record. */
const backupSchema: z.ZodType<BackupRecord> = z.object({
  id: z.string().regex(/^[A-Za-z0-9-]{1,64}$/),
  cluster: z.string(),
  kind: z.enum(["full", "incremental"]),
  parent: z.string().nullable(),
  state: z.enum(["running", "waiting", "done", "failed"]),
  startedAt: time,
  endedAt: time.nullable(),
  source: parsed<string, NodeName>(z.string(), parseNodeName, "node name").nullable(),
  sourceRole: z.enum(["primary", "standby"]),
  systemIdentifier: parsed<string, SystemIdentifier>(z.string(), parseSystemIdentifier, "identifier"),
  serverVersion: z.number(),
  walSegmentBytes: z.int().min(1),
  checksums: z.boolean(),
  timeline,
  startLsn: lsn,
  stopLsn: lsn.nullable(),
  stopTimeline: timeline.nullable(),
  bytes: count,
  storedBytes: count,
  tablespaces: z.array(z.object({ oid: z.int().min(0), location: z.string(), bytes: count })),
  corruptPages: count,
  corruptExamples: z.array(z.string()),
  keep: z.enum(["full", "standalone"]).nullable(),
  label: z.string().nullable(),
  error: z.string().nullable(),
});

const drillSchema: z.ZodType<DrillRecord> = z.object({
  id: z.string(),
  backup: z.string(),
  startedAt: time,
  endedAt: time,
  passed: z.boolean(),
  target: z.string(),
  reachedLsn: lsn.nullable(),
  reachedTime: time.nullable(),
  restoreMs: count,
  replayMs: count,
  steps: z.array(z.object({ name: z.string(), passed: z.boolean(), detail: z.string(), ms: count })),
});

/** A record as JSON has it: positions are text. */
export function recordJson(record: BackupRecord | DrillRecord): Buffer {
  const text = JSON.stringify(
    record,
    (_name, value: unknown) => (typeof value === "bigint" ? formatLsn(value as Lsn) : value),
    2,
  );
  return Buffer.from(`${text}\n`, "utf8");
}

/** @throws Fault BACKUP_DAMAGED */
export function parseBackup(bytes: Buffer, key: string): BackupRecord {
  return read(backupSchema, bytes, key);
}

/** @throws Fault BACKUP_DAMAGED */
export function parseDrill(bytes: Buffer, key: string): DrillRecord {
  return read(drillSchema, bytes, key);
}

function read<T>(schema: z.ZodType<T>, bytes: Buffer, key: string): T {
  try {
    return schema.parse(JSON.parse(bytes.toString("utf8")));
  } catch (thrown) {
    throw new Fault("BACKUP_DAMAGED", `${key} cannot be understood.`, {
      detail: thrown instanceof z.ZodError ? z.prettifyError(thrown) : String(thrown),
      hint: "Check the repository: pgherd backup verify.",
      cause: thrown,
    });
  }
}
