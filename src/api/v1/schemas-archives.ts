/** The parts of backup servers and of elections that replies about nodes have. */
import { z } from "zod";
import { receiverStates } from "../../cluster/records.ts";

const lsn = z
  .string()
  .regex(/^[0-9A-F]+\/[0-9A-F]+$/)
  .nullable();
const time = z.string().nullable();

/** What a node has promised and has for the coming election. */
export const ballot = z
  .strictObject({
    token: z.number(),
    timeline: z.number(),
    lsn,
    record_version: z.number(),
    taken: z
      .strictObject({ timeline: z.number(), lsn })
      .nullish()
      .meta({ description: "The end of the WAL taken over from an archive since" }),
  })
  .nullable();

/** A WAL receiver of a backup server, as the status shows it. */
export const archiveLine = z.strictObject({
  name: z.string(),
  host: z.string(),
  state: z.enum([...receiverStates, "unknown"]).meta({
    description: "promised: it waits for the winner of an election; unknown: it was not heard for a while",
  }),
  upstream: z.string().nullable(),
  synchronous: z.boolean().meta({ description: "Commits may wait for it" }),
  sync: z.boolean().meta({ description: "It stands in the durability record now" }),
  timeline: z.number().nullable(),
  lsn,
  lag_bytes: z.number().nullable(),
  unarchived_bytes: z.number().nullable().meta({ description: "Received, and not in the repository yet" }),
  gap: z
    .strictObject({ timeline: z.number(), start: z.string(), end: z.string() })
    .nullable()
    .meta({ description: "WAL it lacks, which no base backup has come after" }),
  last_backup_at: time,
  last_drill_at: time.meta({ description: "When a restore was last proven" }),
  api_url: z.string().nullable(),
  problem: z
    .strictObject({
      code: z.string(),
      message: z.string(),
      detail: z.string().nullable(),
      hint: z.string().nullable(),
    })
    .nullable(),
  version: z.string(),
  heard_s: z.number().nullable(),
});
