/** The shapes of what the cluster keeps of its past. */
import { z } from "zod";

const time = z.string().meta({ description: "ISO 8601 with offset" });

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
