import { z } from "zod";
import { recoveryPhases, type RecoveryRecord } from "../cluster/records.ts";
import { lsn, nodeName, timeline, wallTime } from "./layout-values.ts";

const longText = z.string().transform((text) => text.slice(0, 1000));

/** The value of `pgherd/recovery`: texts are cut. */
export const recoverySchema: z.ZodType<RecoveryRecord> = z.object({
  id: z.string().min(1).max(100),
  node: nodeName,
  phase: z.enum(recoveryPhases),
  target: longText,
  wish: z.string().max(4000),
  timeline,
  startedAt: wallTime,
  updatedAt: wallTime,
  reached: z.object({ lsn, time: wallTime.nullable(), timeline }).nullable(),
  left: z.object({ timeline, lsn, bytes: z.number() }).nullable(),
  problem: z
    .object({
      code: longText,
      message: longText,
      detail: longText.nullable(),
      hint: longText.nullable(),
    })
    .nullable(),
});
