import type { ReceiverRecord } from "../cluster/records.ts";
import { awayAfterMs } from "../cluster/policy.ts";
import { toFault } from "../values/fault.ts";
import type { AgentContext } from "./context.ts";

/** How long a node that comes back waits for its WAL to be saved; a copy of what it discards stays here anyway (I6). */
const saveLimitMs = 60_000;

/** The receiver whose backup server is asked first: the one heard last; null = none is known. */
export function nearestArchive(context: Pick<AgentContext, "mirror" | "clock">): ReceiverRecord | null {
  const { mirror, clock } = context;
  if (mirror.state === null || mirror.state.receivers.size === 0) return null;
  const now = clock.now();
  const [first] = [...mirror.state.receivers.values()]
    .map(({ value }) => value)
    .filter((receiver) => receiver.apiUrl !== null)
    .sort((a, b) => mirror.receiverHeardMs(a.name, now) - mirror.receiverHeardMs(b.name, now));
  return first ?? null;
}

/** Serves the spool of restore_command and archive_command as the settings say. */
export function tendSpool(context: AgentContext): void {
  const { settings, archive, keeper } = context;
  const { restore, push, pushBudgetBytes } = settings().backup;
  const receiver = nearestArchive(context);
  if (receiver === null || (!restore && !push)) {
    archive.serve(null);
    return;
  }
  const standing = keeper.standing();
  const token = standing.kind === "mine" ? standing.lease.token : null;
  archive.serve({ receiver, push, budgetBytes: pushBudgetBytes, token });
}

/**
 * Before WAL of this node goes (a rewind, a copy over it), all of it is brought to the archive. A backup server that is away
 * keeps no node from coming back: what a rewind discards and what a copy replaces is kept beside the data too.
 */
export async function saveOwnWal(context: AgentContext, step: (step: string) => void): Promise<void> {
  const { mirror, clock, settings, archive, journal, log, timers } = context;
  const receiver = nearestArchive(context);
  if (receiver === null || mirror.receiverHeardMs(receiver.name, clock.now()) > awayAfterMs(settings().ttlMs))
    return;
  step(`saving WAL with ${receiver.name}`);
  const limit = new AbortController();
  try {
    const saving = archive.save(receiver);
    saving.catch(() => undefined); // told below, unless the time is over before
    const saved = await Promise.race([saving, timers.sleep(saveLimitMs, limit.signal).then(() => null)]);
    if (saved === null) log("warn", "archive.save_slow", { receiver: receiver.name, ms: saveLimitMs });
    else
      journal.event(
        "wal_saved",
        true,
        `${receiver.name} has this node's WAL: ${saved.stored} files were new, ${saved.aside} of a line that was left are kept aside`,
        { receiver: receiver.name, ...saved },
      );
  } catch (thrown) {
    const fault = toFault(thrown);
    journal.event("wal_saved", false, `${receiver.name} did not take this node's WAL: ${fault.message}`, {
      receiver: receiver.name,
      code: fault.code,
    });
  } finally {
    limit.abort();
  }
}
