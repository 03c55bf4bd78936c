/** The parts of routers that several replies have. */
import { z } from "zod";

/** One address a router listens on. */
const listener = z.strictObject({
  name: z.string(),
  target: z.enum(["primary", "standby", "any"]),
  address: z.string(),
  port: z.number(),
  path: z.enum(["session", "stream", "kernel"]),
});

/** Sessions that a planned move would cut, for one reason. */
const pinnedSessions = z.strictObject({
  reason: z.string(),
  count: z.number(),
  examples: z.array(
    z.strictObject({
      user: z.string(),
      database: z.string(),
      application: z.string(),
      address: z.string(),
    }),
  ),
});

/** What a move makes of the sessions in routers. */
export const planSessions = z
  .strictObject({
    routers: z.array(z.string()),
    carried: z.number(),
    pinned: z.array(pinnedSessions),
  })
  .nullable()
  .meta({ description: "What becomes of the sessions in routers; null = there is none" });

/** One router in the status. */
export const routerLine = z.strictObject({
  name: z.string(),
  host: z.string(),
  state: z.enum(["serving", "moving", "unknown"]),
  listeners: z.array(listener),
  sessions: z.number(),
  pinned: z.number().meta({ description: "Sessions that a planned move would cut" }),
  detached: z.array(z.string()).meta({ description: "Nodes it gives no new clients" }),
  api_url: z.string().nullable(),
  version: z.string(),
  heard_s: z.number().nullable(),
});

const time = z.string().meta({ description: "ISO 8601 with offset" });

export const verifier = z.strictObject({
  role: z.string(),
  verifier: z.string().nullable().meta({ description: "rolpassword of pg_authid; null = no password" }),
});

const router = z.strictObject({
  name: z.string(),
  router_id: z.string(),
  sequence: z.number(),
  version: z.string(),
  host: z.string(),
  listeners: z.array(listener),
  admin: z.strictObject({ address: z.string(), port: z.number() }).nullable(),
  api_url: z.string().nullable().optional(),
  sessions: z.number(),
  on_primary: z.number().meta({ description: "Those of them that a planned move concerns" }),
  pinned: z.array(pinnedSessions).meta({ description: "Sessions that a planned move would cut" }),
  detached: z.array(z.string()),
  gate: z
    .strictObject({
      id: z.string(),
      phase: z.enum(["warm", "hold"]),
      state: z.enum(["working", "done", "failed"]),
      ready: z.number(),
      pinned: z.number(),
      busy: z.number(),
      message: z.string().nullable(),
    })
    .nullable()
    .meta({ description: "How it stands with the move in progress" }),
  moved: z
    .strictObject({ id: z.string(), held_ms: z.number(), carried: z.number(), cut: z.number() })
    .nullable()
    .meta({ description: "How the last move went for its sessions" }),
  written_at: time,
  heard_s: z.number().nullable().meta({ description: "Seconds since it was last heard; null = never" }),
});

const routingOrders = z.strictObject({
  detached: z.array(z.string()).meta({ description: "Nodes that get no new clients" }),
  draining: z.array(z.string()).meta({ description: "Those of them whose sessions are to leave too" }),
  paused_until: time.nullable(),
});

export const routers = z.strictObject({ routers: z.array(router), orders: routingOrders });

export const routingBody = z.strictObject({
  order: z.enum(["detach", "drain", "attach", "pause", "resume"]),
  node: z.string().min(1).max(63).nullable().default(null),
  for_s: z.number().positive().max(3600).nullable().default(null).meta({ description: "Of a pause" }),
});

export const routingReply = routingOrders;
