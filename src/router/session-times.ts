import type { RoutingTimes } from "./console/source.ts";

/** Upper bounds in seconds. */
const bounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** How long clients waited for a server, in buckets. */
export class Times {
  readonly #counts = bounds.map(() => 0);
  #sumSeconds = 0;
  #count = 0;

  add(ms: number): void {
    const seconds = ms / 1000;
    this.#count += 1;
    this.#sumSeconds += seconds;
    const at = bounds.findIndex((bound) => seconds <= bound);
    if (at !== -1) this.#counts[at] = (this.#counts[at] ?? 0) + 1;
  }

  view(): RoutingTimes {
    let below = 0;
    const buckets = bounds.map((le, index) => ({ le, count: (below += this.#counts[index] ?? 0) }));
    return { buckets, sumSeconds: this.#sumSeconds, count: this.#count };
  }
}
