import type { RestoreResults, RestoreWatch, RestoreWork } from "../../agent/restore-port.ts";
import type { Timer, Timers } from "../../system/timers.ts";
import { Fault } from "../../values/fault.ts";
import { parseWorkReport, type WorkOrder } from "../restore/work-protocol.ts";
import { childrenOf } from "../serve/child.ts";

/** A restore that is told to stop ends its private server first; then it is killed. */
const stopMs = 90_000;

/**
 * Does one piece of work in a process of its own: reading, checking and writing a whole cluster must not hold up the event loop
 * that renews the lease.
 * @throws Fault as the work does, BACKUP_CANCELLED, BACKUP_JOB_DIED
 */
export function restoreInChild<W extends RestoreWork>(
  command: readonly string[],
  order: Omit<Extract<WorkOrder, { kind: "start" }>, "kind" | "work"> & { readonly work: W },
  { signal, onStep }: RestoreWatch,
  timers: Timers,
): Promise<RestoreResults[W["kind"]]> {
  return new Promise((resolve, reject) => {
    const state: { timer: Timer | null; over: boolean } = { timer: null, over: false };
    const cancelled = (): Fault =>
      new Fault("BACKUP_CANCELLED", "The restore was called off", {
        hint: "The same request goes on with what is there.",
      });
    if (signal.aborted) {
      reject(cancelled());
      return;
    }
    const stop = (): void => {
      child.send({ kind: "cancel" } satisfies WorkOrder);
      state.timer = timers.after(stopMs, () => child.kill("SIGKILL"));
    };
    const settle = (how: () => void): void => {
      if (state.over) return;
      state.over = true;
      how();
    };
    // The place is told in an argument too: who empties it ends by it what still works there.
    const child = childrenOf(command)(["restore-job", order.work.wish.dir], {
      message: (message) => {
        const report = parseWorkReport(message);
        switch (report?.kind) {
          case "ready":
            child.send({ kind: "start", ...order } satisfies WorkOrder);
            break;
          case "step":
            onStep(report.step);
            break;
          case "done":
            settle(() => resolve(report.result as RestoreResults[W["kind"]]));
            break;
          case "failed": {
            const { code, message: text, detail, hint } = report.fault;
            const told = { ...(detail === null ? {} : { detail }), ...(hint === null ? {} : { hint }) };
            settle(() => reject(signal.aborted ? cancelled() : new Fault(code, text, told)));
            break;
          }
          case undefined:
        }
      },
      ended: (how) => {
        signal.removeEventListener("abort", stop);
        state.timer?.cancel();
        settle(() =>
          reject(
            signal.aborted
              ? cancelled()
              : new Fault("BACKUP_JOB_DIED", "The process of the restore ended without an answer", {
                  detail: how,
                  hint: "The same request goes on with what is there.",
                }),
          ),
        );
      },
    });
    signal.addEventListener("abort", stop, { once: true });
  });
}
