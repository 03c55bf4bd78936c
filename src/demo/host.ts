import type { Clock } from "../system/clock.ts";
import type { Random } from "../system/random.ts";
import type { Timers } from "../system/timers.ts";
import { Fault } from "../values/fault.ts";
import { elapsedMs } from "../values/time.ts";

/** What the engine of the demo works with. */
export interface DemoHost {
  /** The environment of the command: where the user's files live, and PATH. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  /** Aborts when the user interrupts. */
  readonly interrupted: AbortSignal;
  /** A line of progress for people. */
  note(line: string): void;
}

/** Bounds of a wait. */
export interface WaitBounds {
  readonly limitMs: number;
  readonly everyMs: number;
}

/**
 * Looks again and again until the answer is not null; null when the time is up.
 * @throws Fault TIMEOUT when the user interrupts
 */
export async function waitUntil<Found>(
  host: DemoHost,
  bounds: WaitBounds,
  look: () => Promise<Found | null> | Found | null,
): Promise<Found | null> {
  const began = host.clock.now();
  for (;;) {
    const found = await look();
    if (found !== null) return found;
    if (host.interrupted.aborted)
      throw new Fault("TIMEOUT", "Interrupted.", {
        hint: "What was started runs on: see `pgherd demo status`.",
      });
    if (elapsedMs(began, host.clock.now()) > bounds.limitMs) return null;
    await host.timers.sleep(bounds.everyMs, host.interrupted);
  }
}
