import { z } from "zod";
import { receiverStates, type ReceiverRecord } from "../cluster/records.ts";
import { lsn, nodeName, systemIdentifier, timeline, token, wallTime } from "./layout-values.ts";

/** More receivers than any cluster has; what is above is not looked at. */
export const mostReceivers = 32;

const shortText = z.string().transform((text) => text.slice(0, 256));
const longText = z.string().transform((text) => text.slice(0, 1000));

/** The value of `pgherd/receivers/<name>`: texts are cut. */
export const receiverSchema: z.ZodType<ReceiverRecord> = z.object({
  name: nodeName,
  incarnation: z.string().regex(/^[A-Za-z0-9-]{1,63}$/),
  receiverId: z.string().max(100),
  sequence: z.number(),
  version: shortText,
  host: shortText,
  apiUrl: z.string().max(300).nullable(),
  synchronous: z.boolean(),
  systemIdentifier: systemIdentifier.nullable(),
  state: z.enum(receiverStates),
  upstream: nodeName.nullable(),
  token: token.nullable(),
  timeline: timeline.nullable(),
  lsn: lsn.nullable(),
  archivedLsn: lsn.nullable(),
  ballot: z.object({ token, timeline, lsn, recordVersion: z.number() }).nullable(),
  promised: token.nullable(),
  suspects: token.nullable(),
  lastBackupAt: wallTime.nullable(),
  lastDrillAt: wallTime.nullable(),
  gap: z.object({ timeline, startLsn: lsn, endLsn: lsn }).nullable(),
  problem: z
    .object({
      code: shortText,
      message: longText,
      detail: longText.nullable(),
      hint: longText.nullable(),
    })
    .nullable(),
  writtenAt: wallTime,
});
