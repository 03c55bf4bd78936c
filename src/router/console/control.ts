import type { NodeName } from "../../values/names.ts";
import type { Router } from "../router.ts";
import type { Order } from "./order.ts";
import { Refusal } from "./refusal.ts";
import type { OrderResult, RouterControl } from "./source.ts";

/** What orders need besides the router itself. */
export interface ControlParts {
  readonly router: Pick<Router, "pause" | "resume" | "kill" | "killDatabase" | "reconnect">;
  /** The nodes that can be named. */
  readonly nodes: () => readonly NodeName[];
  /** Tells every router of the cluster to give a node no new clients, none at all, or clients again. @throws Fault */
  readonly orderRouting: (order: "detach" | "drain" | "attach", node: NodeName) => Promise<void>;
  /** Reads the file again. @throws Fault; what was in force stays in force */
  readonly reload: () => Promise<void>;
  /** Begins a graceful end of the process. */
  readonly shutdown: () => void;
}

/** Carries the orders of the console and of the HTTP paths out on the running router. */
export function routerControl(parts: ControlParts): RouterControl {
  return { carryOut: (order, gone) => carryOut(parts, order, gone) };
}

async function carryOut(parts: ControlParts, order: Order, gone: AbortSignal): Promise<OrderResult> {
  const { router } = parts;
  switch (order.kind) {
    case "pause": {
      const { held, busy } = await router.pause(order.database, order.forMs, gone);
      if (gone.aborted) router.resume(order.database); // who asked does not wait for the answer any more
      if (busy === 0)
        return { tag: "PAUSE", notice: `${count(held)} held, for ${order.forMs / 1000} s at most` };
      throw new Refusal(
        "55000",
        `${busy} ${busy === 1 ? "session" : "sessions"} did not come to rest in time; nobody is held any more`,
        "SHOW CLIENTS shows them: those inside a transaction. KILL id ends one.",
      );
    }
    case "resume":
      router.resume(order.database);
      return { tag: "RESUME", notice: null };
    case "reconnect":
      return {
        tag: "RECONNECT",
        notice: `${count(router.reconnect(order.database))} connected anew as they come to rest`,
      };
    case "kill":
      if (!router.kill(order.session))
        throw new Refusal("42704", `there is no session ${order.session}`, "SHOW CLIENTS lists them by id.");
      return { tag: "KILL", notice: null };
    case "kill-database":
      return { tag: "KILL", notice: `${count(router.killDatabase(order.database))} cut` };
    case "detach":
    case "attach":
    case "drain":
      if (!parts.nodes().includes(order.node))
        throw new Refusal("42704", `there is no node ${order.node}`, "SHOW POOL_NODES lists the nodes.");
      await parts.orderRouting(order.kind, order.node);
      return {
        tag: order.kind.toUpperCase(),
        notice: `ordered of every router: ${order.kind} ${order.node}`,
      };
    case "reload":
      await parts.reload();
      return { tag: "RELOAD", notice: null };
    case "shutdown":
      parts.shutdown();
      return {
        tag: "SHUTDOWN",
        notice: "the router ends when its sessions have ended, or their time is over",
      };
  }
}

function count(sessions: number): string {
  return `${sessions} ${sessions === 1 ? "session is" : "sessions are"}`;
}
