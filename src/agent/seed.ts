import { toFault } from "../values/fault.ts";
import type { NodeName } from "../values/names.ts";
import { elapsedMs } from "../values/time.ts";
import { reserve } from "./act-postgres.ts";
import type { Execution } from "./execution.ts";
import { nearestArchive } from "./local-archive.ts";
import { upstreamAddress } from "./observe.ts";
import type { RestoreWish } from "./restore-port.ts";

/** Objects of the repository read at the same time. */
const parallel = 4;

/**
 * Restores this node from the archive instead of copying a member: the newest backup and the WAL after it, read from the backup
 * server alone. What was written since is streamed. @returns false where that is not wanted or did not succeed: it is copied then
 */
export async function seedFromArchive(execution: Execution, leader: NodeName): Promise<boolean> {
  const { context, signal, step } = execution;
  const { options, instance, archive, notebook, journal, clock, mirror } = context;
  const receiver = nearestArchive(context);
  if (options.seedFromArchive !== true || receiver === null || instance.prepared === undefined) return false;
  // One that was seeded and could not go on from there must not be seeded again and again.
  if (notebook.seedFailed) return false;
  notebook.seedFailed = true;
  const started = clock.now();
  const source = receiver.name;
  journal.event("clone_started", true, `restoring from the archive of ${source}`, { source });
  try {
    // From here on the leader keeps what the restored node will ask for.
    const upstream = upstreamAddress(context, leader);
    if (upstream !== null) await reserve(context, leader, upstream);
    const wish: RestoreWish = {
      backup: null,
      target: { kind: "latest" },
      inclusive: true,
      // No line that the cluster has left, whatever the archive has of it.
      timeline: mirror.state?.lease.value?.timeline ?? null,
      dir: await instance.prepared.place(),
      tablespaces: {},
      tablespacesBelow: null,
      // What an earlier try left there is taken over where it is right.
      delta: true,
      verify: false,
      jobs: parallel,
      start: null,
    };
    const done = await archive.restore(
      receiver,
      { kind: "standby", wish },
      { signal, onStep: (at) => step(`copying: ${at.step}`, at.done, at.total) },
    );
    signal.throwIfAborted();
    await instance.prepared.swapIn();
    journal.event("clone_done", true, `restored ${done.backup} from the archive of ${source}`, {
      source,
      backup: done.backup,
      bytes: done.bytes,
      ms: Math.round(elapsedMs(started, clock.now())),
    });
    return true;
  } catch (thrown) {
    if (signal.aborted) throw thrown;
    const fault = toFault(thrown);
    journal.event("clone_failed", false, `${fault.message}: this node is copied from a member instead`, {
      source,
      code: fault.code,
    });
    return false;
  }
}
