import { z } from "zod";
import type { GateOrder, RouterRecord } from "../cluster/records.ts";
import type { NodeName } from "../values/names.ts";
import type { WallTime } from "../values/time.ts";
import { nodeName, token, wallTime } from "./layout-values.ts";

/** More routers than any cluster has; what is above is not looked at. */
export const mostRouters = 256;

/** The value of `pgherd/gate`. */
export const gateSchema: z.ZodType<GateOrder> = z.object({
  id: z.string().max(100),
  from: nodeName,
  to: nodeName,
  token,
  phase: z.enum(["warm", "hold"]),
  stragglers: z.enum(["abort", "cancel"]),
  drainMs: z.number().min(0).max(600_000),
  at: wallTime,
});

const shortText = z.string().transform((text) => text.slice(0, 256));
const count = z.number().int().min(0);
const tcpPort = z.number().int().min(0).max(65_535);

/** The value of `pgherd/routers/<name>`: texts are cut, lists are bounded. */
export const routerSchema: z.ZodType<RouterRecord> = z.object({
  name: z.string().min(1).max(63),
  routerId: z.string().max(100),
  sequence: z.number(),
  version: shortText,
  host: shortText,
  listeners: z
    .array(
      z.object({
        name: shortText,
        target: z.enum(["primary", "standby", "any"]),
        address: shortText,
        port: tcpPort,
        path: z.enum(["session", "stream", "kernel"]),
      }),
    )
    .max(32),
  admin: z.object({ address: shortText, port: tcpPort }).nullable(),
  apiUrl: z.string().max(300).nullish(),
  sessions: count,
  onPrimary: count.default(0),
  pinned: z
    .array(
      z.object({
        reason: shortText,
        count,
        examples: z
          .array(
            z.object({ user: shortText, database: shortText, application: shortText, address: shortText }),
          )
          .transform((examples) => examples.slice(0, 20)),
      }),
    )
    .max(32),
  detached: z.array(nodeName).max(256),
  gate: z
    .object({
      id: z.string().max(100),
      phase: z.enum(["warm", "hold"]),
      state: z.enum(["working", "done", "failed"]),
      ready: count,
      pinned: count,
      busy: count,
      message: z
        .string()
        .nullable()
        .transform((text) => text?.slice(0, 1000) ?? null),
    })
    .nullable(),
  moved: z
    .object({ id: z.string().max(100), heldMs: z.number().min(0), carried: count, cut: count })
    .nullish()
    .transform((moved) => moved ?? null),
  writtenAt: wallTime,
});

/** What operators ordered of all routers (`pgherd/routing`). */
export interface RoutingOrders {
  /** Nodes that get no new clients. */
  readonly detached: readonly NodeName[];
  /** Those of them whose sessions are to leave too. */
  readonly draining: readonly NodeName[];
  /** New transactions wait until then, at the latest; null = they do not. */
  readonly pausedUntil: WallTime | null;
}

const ordersSchema = z.object({
  detached: z.array(nodeName).max(256).default([]),
  draining: z.array(nodeName).max(256).default([]),
  pausedUntil: wallTime.nullish().transform((at) => at ?? null),
});

/** The orders as stored; what cannot be understood orders nothing. */
export function parseRoutingOrders(text: string | null): RoutingOrders {
  try {
    return ordersSchema.parse(JSON.parse(text ?? "{}"));
  } catch {
    return { detached: [], draining: [], pausedUntil: null };
  }
}
