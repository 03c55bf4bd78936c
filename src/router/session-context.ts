import type { Log } from "../agent/context.ts";
import type { ListenerSettings, RouterTimeouts } from "../config/router-config.ts";
import type { Clock } from "../system/clock.ts";
import type { Timers } from "../system/timers.ts";
import type { NodeName } from "../values/names.ts";
import type { BackendConnector } from "./backend-connect.ts";
import type { Route } from "./backend.ts";
import type { Pause } from "./routes.ts";
import type { HiddenState } from "./session-hidden.ts";
import type { Slots } from "./session-slots.ts";
import type { ListenerCounters, NodeCounters } from "./sessions.ts";

/** Where sessions can go, and when. */
export interface Routes {
  /**
   * Waits for a node for a client of this listener.
   * @returns null = none was there in time
   */
  next(listener: ListenerSettings, untilMs: number, signal: AbortSignal): Promise<Route | null>;
  /** Waits before a node is tried again, as long as nothing says that what failed a moment ago may work now. */
  pause(node: NodeName, pause: Pause, signal: AbortSignal): Promise<void>;
  /** A session has been put on a node: others may wait for just that. */
  reached(): void;
  /** Whether a session may still be put on this node under this token (F6). */
  stands(route: Route): boolean;
  /**
   * Takes a place on the node. @param asking false = a session that is carried is not turned away
   * @throws {Refusal} all are taken
   */
  place(node: NodeName, asking: boolean, signal: AbortSignal): Promise<() => void>;
  /** The same at once, for a session that is carried. */
  move(node: NodeName): () => void;
}

/** What all sessions of a router share. */
export interface SessionContext {
  readonly connector: BackendConnector;
  readonly routes: Routes;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  /** Those of now: they can be changed while sessions run. */
  readonly timeouts: () => RouterTimeouts;
  readonly counters: (listener: string) => ListenerCounters;
  readonly nodeCounters: (node: NodeName) => NodeCounters;
  /** Bounds how many logins run at once. */
  readonly logins: Slots;
  /** A clock read now and then: enough to say how long a client has been idle. */
  readonly pulse: { readonly nowMs: number };
  /** How long a client waited for a server, from when it needed one, in milliseconds. */
  readonly routed: (ms: number) => void;
  /** What the code of each database may do to sessions. */
  readonly hidden: HiddenState;
  /** Something of that was learned which was not known when the sessions of the database began. */
  readonly learned: (database: string) => void;
  /** The node that is known to lead; null = nobody is. */
  readonly primary: () => NodeName | null;
  /** A session has been put on a server: what is known of the cluster may have changed meanwhile. */
  readonly swapped: (id: number) => void;
  /** A session has come to a point that the gate counts. */
  readonly progressed: () => void;
  /** A session is over. */
  readonly ended: (id: number) => void;
}
