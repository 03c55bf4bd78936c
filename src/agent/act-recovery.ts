import type { LeaseRecord, RecoveryRecord } from "../cluster/records.ts";
import { recoveryOf } from "../cluster/recovery.ts";
import { keys } from "../dcs/layout.ts";
import { Fault } from "../values/fault.ts";
import { lsnDistance } from "../values/lsn.ts";
import { nextToken } from "../values/names.ts";
import { dcsTimeoutMs, type AgentContext } from "./context.ts";
import { durabilityWrites } from "./durability-keeper.ts";
import type { Executor } from "./execution.ts";
import { saveOwnWal } from "./local-archive.ts";
import { recoveryWrite } from "./recovery-record.ts";

/** The file of the state directory that says whose restored state lies beside the data directory. */
export const preparedFile = "prepared-recovery";

/** The checkpoint before the stop: the stop itself makes another, while nobody can write. */
const checkpointMs = 60_000;

/**
 * The restored state becomes the cluster's. Until the one transaction in the middle nothing has changed but that PostgreSQL is
 * stopped: whoever leads next goes on on the old line. After it the old line is left for good, and only who has the new one
 * leads; the data is put in place by whichever round comes first, and started by L-02 as on any timeline of its own.
 */
export const restoreCluster: Executor<{ kind: "restore-cluster" }> = async ({ context, step }) => {
  const { instance, options, journal, notebook } = context;
  if ((await instance.prepared?.isWhole()) !== true) {
    // Somebody has emptied the place: it is restored once more, while the cluster serves on its old line.
    notebook.prepared = null;
    context.log("warn", "recovery.prepared_gone", {});
    return;
  }
  step("checkpoint");
  await instance.checkpoint(checkpointMs).catch((thrown: unknown) => {
    context.log("warn", "postgres.checkpoint_failed", { message: String(thrown) });
  });
  // What is left can be had again: the archive gets what it lacks, and the receiver is sent the last of it by the clean stop.
  await saveOwnWal(context, step);
  step("stopping");
  await instance.stop("fast", options.stopTimeoutMs);
  const end = await instance.endOfWal();
  step("leaving the old line");
  const state = await context.mirror.refresh(dcsTimeoutMs(context.settings().ttlMs));
  const recovery = recoveryOf(state);
  if (recovery?.phase !== "prepared" || notebook.prepared !== recovery.id) return;
  const bytes = end === null || recovery.reached === null ? null : lsnDistance(end.lsn, recovery.reached.lsn);
  const left = end === null || bytes === null ? null : { ...end, bytes };
  await decideOn(context, recovery, { version: state.recovery?.version ?? 0, left });
  journal.event("leader_changed", true, `${options.node} leads the line restored to ${recovery.target}`, {
    leader: options.node,
    timeline: recovery.timeline,
    left_bytes: bytes,
  });
  await putInPlace(context);
};

/**
 * The commit point. The token changes, so that nothing proven for the old line counts on the new one (S5); every promise of
 * durability of before goes with that line. This node stays the same member: no entry is left that could count it for what it
 * acknowledged before, and its old data is never started again.
 */
async function decideOn(
  context: AgentContext,
  recovery: RecoveryRecord,
  { version, left }: { readonly version: number; readonly left: RecoveryRecord["left"] },
): Promise<void> {
  const { keeper, membership, options } = context;
  const standing = keeper.standing();
  if (standing.kind !== "mine")
    throw new Fault("LOST_LEADERSHIP", "The lease was lost before the cluster left its line.");
  const token = nextToken(standing.lease.token);
  const done = await keeper.change(
    (lease): LeaseRecord => {
      if (lease.token !== standing.lease.token)
        throw new Fault("LOST_LEADERSHIP", "The token was raised before the cluster left its line.");
      return {
        ...lease,
        token,
        state: "elected",
        timeline: recovery.timeline,
        origin: null,
        servingSince: null,
      };
    },
    {
      checks: [{ key: keys.recovery, version }],
      writes: [
        { key: keys.leader, value: options.node },
        ...durabilityWrites([{ token, primary: membership.member, members: [], required: 0 }]),
        recoveryWrite(context, recovery, { phase: "switching", left }),
      ],
    },
  );
  if (!done) throw new Fault("LOST_LEADERSHIP", "Another node leads now: the cluster goes on as it was.");
}

/** Puts the restored data in place; what was there is set aside (I6). */
export const swapRestored: Executor<{ kind: "swap-restored" }> = async ({ context, step }) => {
  step("putting the restored data in place");
  await putInPlace(context);
};

async function putInPlace(context: AgentContext): Promise<void> {
  const { instance, files, notebook } = context;
  // Done already where the agent ended before it could forget the note.
  await instance.prepared?.swapIn();
  await files.remove(preparedFile);
  notebook.prepared = null;
}
