import type { RouterRecord } from "../cluster/records.ts";
import { encodeRecord, keys } from "../dcs/layout.ts";
import { parseRoutingOrders, type RoutingOrders } from "../dcs/layout-routers.ts";
import { Fault } from "../values/fault.ts";
import { parseNodeName, type NodeName } from "../values/names.ts";
import type { WallTime } from "../values/time.ts";
import { dcsTimeoutMs, type AgentContext } from "./context.ts";

/** What an operator orders of all routers. */
export type RoutingOrder =
  /** No new clients; with drain the sessions there leave too. */
  | { readonly kind: "detach" | "drain" | "attach"; readonly node: string }
  /** New transactions wait, so long at most. */
  | { readonly kind: "pause"; readonly forMs: number }
  | { readonly kind: "resume" };

/** A router with how long ago it was heard. */
export interface RouterPicture {
  readonly record: RouterRecord;
  readonly heardMs: number;
}

/** The routers there are records of, by name. */
export function routerPictures(context: AgentContext): readonly RouterPicture[] {
  const { mirror, clock } = context;
  const now = clock.now();
  return [...(mirror.state?.routers.values() ?? [])]
    .map(({ value: record }) => ({ record, heardMs: mirror.routerHeardMs(record.name, now) }))
    .sort((a, b) => (a.record.name < b.record.name ? -1 : 1));
}

/** Records an order for all routers. @throws Fault NODE_UNKNOWN, DCS_CONFLICT, DCS_UNREACHABLE */
export async function orderRouting(context: AgentContext, order: RoutingOrder): Promise<RoutingOrders> {
  const { mirror, dcs, settings } = context;
  const timeoutMs = dcsTimeoutMs(settings().ttlMs);
  const state = await mirror.refresh(timeoutMs);
  const entry = mirror.entry(keys.routing);
  const before = parseRoutingOrders(entry?.value ?? null);
  const after = changed(context, before, order, [...state.nodes.keys()]);
  const isNothing = after.detached.length === 0 && after.pausedUntil === null;
  const result = await dcs.transact(
    {
      checks: [{ key: keys.routing, version: entry?.version ?? 0 }],
      writes: [{ key: keys.routing, value: isNothing ? null : encodeRecord(after) }],
    },
    timeoutMs,
  );
  if (result.outcome === "conflict")
    throw new Fault("DCS_CONFLICT", "Somebody else gave the routers an order at the same moment.", {
      detail: "Nothing was changed.",
      hint: "Look with `pgherd router status`, and repeat the order if it is still wanted.",
    });
  return after;
}

function changed(
  context: AgentContext,
  before: RoutingOrders,
  order: RoutingOrder,
  nodes: readonly NodeName[],
): RoutingOrders {
  switch (order.kind) {
    case "pause": {
      const until = Date.parse(context.clock.wall()) + order.forMs;
      return { ...before, pausedUntil: new Date(until).toISOString() as WallTime };
    }
    case "resume":
      return { ...before, pausedUntil: null };
    case "attach":
    case "detach":
    case "drain": {
      const node = parseNodeName(order.node);
      const others = (names: readonly NodeName[]): NodeName[] => names.filter((name) => name !== node);
      // A node that was removed meanwhile can still be taken out of the list.
      const isKnown = node !== undefined && [...nodes, ...before.detached].includes(node);
      if (!isKnown)
        throw new Fault("NODE_UNKNOWN", `The cluster has no node ${order.node}.`, {
          detail: `It has: ${[...nodes].sort().join(", ")}. Nothing was changed.`,
          hint: "See `pgherd status`.",
        });
      const detached = others(before.detached);
      const draining = others(before.draining);
      return {
        ...before,
        detached: order.kind === "attach" ? detached : [...detached, node].sort(),
        draining: order.kind === "drain" ? [...draining, node].sort() : draining,
      };
    }
  }
}
