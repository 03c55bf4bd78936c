import { z } from "zod";
import type { RouterSettings, VipSettings } from "../../config/router-config.ts";
import type { PutOutcome } from "./address.ts";

/** The first line: everything a guard has to know. It reads no file that may have changed since the router read it. */
export interface GuardOpening {
  readonly kind: "open";
  readonly cluster: string;
  readonly namespace: string;
  readonly dcs: RouterSettings["dcs"];
  readonly routerId: string;
  readonly vips: readonly VipSettings[];
}

/**
 * What a router tells its guard, one JSON text a line on the guard's input. `vip` = the name of an address. Each strike of the guard
 * begins a new epoch; what was decided in an earlier one is refused.
 */
export type GuardOrder =
  | { readonly kind: "alive" }
  | {
      readonly kind: "put";
      readonly id: number;
      readonly vip: string;
      readonly epoch: number;
      readonly deadline: number;
    }
  | { readonly kind: "remove"; readonly id: number; readonly vip: string }
  /** The router has given everything up in order. */
  | { readonly kind: "end" };

/** What the guard answers, on its output. */
export type GuardAnswer =
  | { readonly kind: "ready"; readonly epoch: number }
  | {
      readonly kind: "done";
      readonly id: number;
      readonly epoch: number;
      readonly outcome: PutOutcome | "removed" | "failed";
      /** failed: the fault, for people. */
      readonly message: string | null;
      readonly detail: string | null;
    };

const orderSchema: z.ZodType<GuardOrder> = z.union([
  z.object({ kind: z.literal("alive") }),
  z.object({
    kind: z.literal("put"),
    id: z.number(),
    vip: z.string(),
    epoch: z.number(),
    deadline: z.number(),
  }),
  z.object({ kind: z.literal("remove"), id: z.number(), vip: z.string() }),
  z.object({ kind: z.literal("end") }),
]);

const answerSchema: z.ZodType<GuardAnswer> = z.union([
  z.object({ kind: z.literal("ready"), epoch: z.number() }),
  z.object({
    kind: z.literal("done"),
    id: z.number(),
    epoch: z.number(),
    outcome: z.enum(["placed", "late", "refused", "removed", "failed"]),
    message: z.string().nullable(),
    detail: z.string().nullable(),
  }),
]);

/** The opening from its line, written by a router of this very version; null = it is none. */
export function parseOpening(line: string): GuardOpening | null {
  const opening = parse(z.looseObject({ kind: z.literal("open") }), line);
  return opening as GuardOpening | null;
}

/** An order from its line; null = it is none. */
export function parseOrder(line: string): GuardOrder | null {
  return parse(orderSchema, line);
}

/** An answer from its line; null = it is none. */
export function parseAnswer(line: string): GuardAnswer | null {
  return parse(answerSchema, line);
}

function parse<T>(schema: z.ZodType<T>, line: string): T | null {
  try {
    return schema.parse(JSON.parse(line));
  } catch {
    return null;
  }
}

/** More than this without a line end is not a line of this protocol. */
const longest = 65_536;

/** Cuts a stream of text into lines and hands each on. @returns takes the next piece */
export function lineReader(onLine: (line: string) => void): (chunk: Buffer) => void {
  let pending = "";
  return (chunk) => {
    pending = (pending + chunk.toString("utf8")).slice(-longest);
    const lines = pending.split("\n");
    pending = lines.pop() ?? "";
    for (const line of lines) onLine(line);
  };
}
