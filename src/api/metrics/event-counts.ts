import { eventNames, type EventName } from "../../cluster/decision.ts";
import type { AgentService } from "../../agent/service.ts";

/** How often each event happened since the agent started. */
export class EventCounts {
  readonly #counts = new Map<EventName, number>(eventNames.map((name) => [name, 0]));
  readonly #unsubscribe: () => void;

  constructor(service: AgentService) {
    this.#unsubscribe = service.subscribe((item) => {
      if (item.kind === "event")
        this.#counts.set(item.event.event, (this.#counts.get(item.event.event) ?? 0) + 1);
    });
  }

  /** Every event name, those that never happened with 0. */
  all(): ReadonlyMap<EventName, number> {
    return this.#counts;
  }

  /** Stops counting. */
  close(): void {
    this.#unsubscribe();
  }
}
