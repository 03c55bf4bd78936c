import type { NodeName } from "../values/names.ts";
import { toFault } from "../values/fault.ts";
import { release } from "./act-leadership.ts";
import type { Executor } from "./execution.ts";

/**
 * The disk of the holder hangs. Renewals end first: whatever hangs below, the deadline passes and the guard strikes (P4). Then
 * everything is killed. What waits for the disk cannot die now, and the lease is released only when nothing is left (P3); else
 * it runs out. That is safe although such a process is still there: a process that a fatal signal waits for never runs one
 * more instruction of its own, so that it cannot acknowledge; what it had begun to write is not acknowledged either.
 * The end of WAL is not read: reading would wait for the same disk.
 */
export const stepDown: Executor<{ kind: "step-down"; candidate: NodeName | null }> = async ({
  context,
  action,
  decision,
  step,
}) => {
  const { instance, keeper, journal } = context;
  const { candidate } = action;
  keeper.lapse(true);
  step("ending what can be ended");
  try {
    await instance.kill();
  } catch (thrown) {
    journal.event("handover", false, `PostgreSQL cannot be ended (${decision.why}): the lease runs out`, {
      candidate,
      ...pick(toFault(thrown).report()),
    });
    throw thrown;
  }
  step("releasing");
  await release(context, "crash", candidate, null);
  keeper.lapse(false);
  journal.event(
    "handover",
    true,
    `released the lease${candidate === null ? "" : ` to ${candidate}`}: ${decision.why}`,
    { candidate, lsn: null },
  );
};

function pick(report: { readonly code: string; readonly detail: string | null }): {
  code: string;
  detail: string | null;
} {
  return { code: report.code, detail: report.detail };
}

/** Gives up the room set aside, so that the next start finds some. */
export const freeReserve: Executor<{ kind: "free-reserve" }> = async ({ context, decision }) => {
  const { disk, notebook, journal } = context;
  if (!(await disk.freeReserve())) return;
  notebook.succeeded("start", "rejoin");
  journal.event("disk_reserve_freed", true, `the reserve was given up: ${decision.why}`, decision.facts);
};
