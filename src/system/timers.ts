/** A running timer. */
export interface Timer {
  /** Forgets the timer; harmless when it has fired. */
  cancel(): void;
}

/** Where waiting comes from. */
export interface Timers {
  /** Calls `run` once after `ms` milliseconds. */
  after(ms: number, run: () => void): Timer;
  /** Resolves after `ms` milliseconds, or at once when the signal aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** The timers of the machine. */
export const systemTimers: Timers = {
  after: (ms, run) => {
    const handle = setTimeout(run, ms);
    return { cancel: () => clearTimeout(handle) };
  },
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted === true) {
        resolve();
        return;
      }
      const done = (): void => {
        clearTimeout(handle);
        signal?.removeEventListener("abort", done);
        resolve();
      };
      const handle = setTimeout(done, ms);
      signal?.addEventListener("abort", done, { once: true });
    }),
};

/** A limit on one piece of work: a signal that aborts after `ms` or with its parent; `clear` frees both listeners. */
export interface Deadline {
  readonly signal: AbortSignal;
  /** Whether it was the time limit that aborted. */
  readonly expired: () => boolean;
  clear(): void;
}

/** Makes a deadline. Used instead of `AbortSignal.any`, which leaks on Node 20. */
export function deadline(timers: Timers, ms: number, parent?: AbortSignal): Deadline {
  const controller = new AbortController();
  let expired = false;
  const timer = timers.after(ms, () => {
    expired = true;
    controller.abort();
  });
  const follow = (): void => controller.abort();
  if (parent?.aborted === true) controller.abort();
  else parent?.addEventListener("abort", follow, { once: true });
  return {
    signal: controller.signal,
    expired: () => expired,
    clear: () => {
      timer.cancel();
      parent?.removeEventListener("abort", follow);
    },
  };
}
