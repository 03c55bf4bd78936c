import { z } from "zod";
import { parseNodeName } from "../../values/names.ts";
import { Fault } from "../../values/fault.ts";
import { longestPauseMs, type Order } from "../console/order.ts";

const node = z.string().transform((text, context) => {
  const name = parseNodeName(text);
  if (name !== undefined) return name;
  context.addIssue({ code: "custom", message: "no name of a node" });
  return z.NEVER;
});
const database = z.string().min(1).max(63).nullable().default(null);

const orderSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("pause"),
    database,
    forMs: z.int().min(1).max(longestPauseMs).default(30_000),
  }),
  z.strictObject({ kind: z.enum(["resume", "reconnect"]), database }),
  z.strictObject({ kind: z.literal("kill"), session: z.int().min(1) }),
  z.strictObject({ kind: z.literal("kill-database"), database: z.string().min(1).max(63) }),
  z.strictObject({ kind: z.enum(["detach", "attach", "drain"]), node }),
  z.strictObject({ kind: z.enum(["reload", "shutdown"]) }),
]);

/** The order in the body of `POST /orders`. @throws Fault REQUEST_INVALID */
export function readOrder(body: string): Order {
  let document: unknown;
  try {
    document = JSON.parse(body);
  } catch {
    throw new Fault("REQUEST_INVALID", "The body is no JSON.");
  }
  const read = orderSchema.safeParse(document);
  if (read.success) return read.data;
  throw new Fault("REQUEST_INVALID", "The body is no order of a router.", {
    detail: read.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`).join("; "),
    hint: 'For example {"kind":"detach","node":"db2"}',
  });
}
