import type { ListenerSettings } from "../config/router-config.ts";
import type { Clock } from "../system/clock.ts";
import type { NodeName } from "../values/names.ts";
import type { Route } from "./backend.ts";
import type { Gate } from "./gate.ts";
import type { NodePlaces } from "./limits.ts";
import type { ClusterRoutes, Pause } from "./routes.ts";
import type { Routes } from "./session-context.ts";

/** The ways to the nodes, with the gate in front of the primary. */
export class GateRoutes implements Routes {
  readonly #routes: ClusterRoutes;
  readonly #places: NodePlaces;
  readonly #gate: Gate;
  readonly #clock: Clock;

  constructor(routes: ClusterRoutes, places: NodePlaces, gate: Gate, clock: Clock) {
    this.#routes = routes;
    this.#places = places;
    this.#gate = gate;
    this.#clock = clock;
  }

  async next(listener: ListenerSettings, untilMs: number, signal: AbortSignal): Promise<Route | null> {
    for (;;) {
      const route = await this.#routes.next(listener, untilMs, signal);
      if (route === null || route.token === null || !this.#gate.closed) return route;
      await this.#gate.opened(signal);
      if (signal.aborted || this.#clock.now() >= untilMs) return null;
    }
  }

  pause(node: NodeName, pause: Pause, signal: AbortSignal): Promise<void> {
    return this.#routes.pause(node, pause, signal);
  }

  reached(): void {
    this.#routes.reached();
  }

  stands(route: Route): boolean {
    return this.#routes.stands(route);
  }

  place(node: NodeName, asking: boolean, signal: AbortSignal): Promise<() => void> {
    return this.#routes.place(node, asking, signal);
  }

  move(node: NodeName): () => void {
    return this.#places.move(node);
  }
}
