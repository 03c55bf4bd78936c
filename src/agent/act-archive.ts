import type { Action } from "../cluster/action.ts";
import type { ReceiverRecord } from "../cluster/records.ts";
import type { WalFile } from "../postgres/instance.ts";
import { historyFileName, parseHistory } from "../postgres/timelines.ts";
import { Fault } from "../values/fault.ts";
import { formatLsn, maxLsn, type Lsn } from "../values/lsn.ts";
import type { Timeline } from "../values/names.ts";
import type { Execution, Executor } from "./execution.ts";

type TakeWal = Extract<Action, { kind: "take-wal" }>;

/** More than an election should ever copy: a candidate that far behind is copied anew under the next leader. */
const mostSegments = 4096;

/**
 * F3: what a receiver has and this candidate lacks comes over before the lease is taken. Under the same promise and with its
 * receiver ended, so that the report it makes anew counts as the first one did.
 */
export const takeWal: Executor<TakeWal> = async (execution) => {
  const { context, action, step } = execution;
  const { instance, notebook, mirror, journal, log } = context;
  const { ballot } = notebook;
  if (ballot?.token !== action.token) return;
  const receiver = mirror.state?.receivers.get(action.receiver)?.value;
  if (receiver === undefined) return;
  step(`taking WAL over from ${receiver.name}`);
  try {
    const reached = await instance.takeWal(missingWal(execution, receiver, ballot), ballot);
    // Another round may have withdrawn the report meanwhile.
    if (notebook.ballot !== ballot) return;
    notebook.ballot = { ...ballot, ...reached, taken: action.upTo };
    notebook.succeeded("takeWal");
    journal.event("wal_taken", true, `took WAL up to ${formatLsn(reached.lsn)} over from ${receiver.name}`, {
      receiver: receiver.name,
      from: formatLsn(ballot.lsn),
      to: formatLsn(reached.lsn),
      timeline: reached.timeline,
    });
  } catch (thrown) {
    notebook.failed("takeWal", 250, 3000);
    log("warn", "archive.take_failed", {
      receiver: receiver.name,
      message: thrown instanceof Error ? thrown.message : String(thrown),
    });
    throw thrown;
  }
};

/** The history files and segments from here to the end of the receiver's WAL, in order. */
async function* missingWal(
  { context, action, signal, step }: Execution<TakeWal>,
  receiver: ReceiverRecord,
  own: { readonly timeline: Timeline; readonly lsn: Lsn },
): AsyncGenerator<WalFile> {
  const { upTo } = action;
  const fetch = async (name: string): Promise<Buffer> => {
    const bytes = await context.archive.fetch(receiver, name, signal);
    if (bytes === null)
      throw new Fault(
        "BACKUP_WAL_UNKNOWN",
        `${receiver.name} has reported WAL that its archive lacks: ${name}`,
      );
    return bytes;
  };
  const path = [{ timeline: upTo.timeline, startLsn: 0n as Lsn }];
  if (upTo.timeline !== own.timeline) {
    const name = historyFileName(upTo.timeline);
    const bytes = await fetch(name);
    const forks = parseHistory(bytes.toString("utf8"));
    const at = forks.findIndex((fork) => fork.timeline === own.timeline);
    const fork = forks[at];
    if (fork === undefined || fork.endLsn < own.lsn)
      throw new Fault("BACKUP_WAL_CONFLICT", `The WAL here is not a beginning of that of ${receiver.name}`, {
        detail: `It ends at ${formatLsn(own.lsn)} on timeline ${own.timeline}.`,
      });
    // Each later timeline begins with a segment that repeats what it shares with the one before.
    path.splice(
      0,
      1,
      ...forks.slice(at).map(({ endLsn }, index) => ({
        timeline: forks[at + index + 1]?.timeline ?? upTo.timeline,
        startLsn: endLsn,
      })),
    );
    for (const { timeline } of path.slice(0, -1)) {
      const older = historyFileName(timeline);
      yield { name: older, bytes: await fetch(older) };
    }
    yield { name, bytes };
    // The rest of the own timeline, up to the fork.
    path.unshift({ timeline: own.timeline, startLsn: own.lsn });
  }
  const size = BigInt(await context.instance.walSegmentBytes());
  let count = 0;
  for (const [index, { timeline, startLsn }] of path.entries()) {
    const end = path[index + 1]?.startLsn ?? upTo.lsn;
    const first = maxLsn(startLsn, own.lsn) / size;
    // Up to a fork only whole segments: the last one is on the next timeline too.
    const last = index + 1 < path.length ? end / size - 1n : (end - 1n) / size;
    for (let number = first; number <= last; number += 1n) {
      if ((count += 1) > mostSegments)
        throw new Fault("BACKUP_WAL_INVALID", `More than ${mostSegments} segments are missing here`);
      const name = segmentName(timeline, number, size);
      step(`taking WAL over from ${receiver.name}: ${name}`);
      yield { name, bytes: await fetch(name) };
    }
  }
}

/** PostgreSQL's name of a segment. */
function segmentName(timeline: Timeline, number: bigint, segmentBytes: bigint): string {
  const perLog = 0x1_0000_0000n / segmentBytes;
  const part = (value: bigint): string => value.toString(16).toUpperCase().padStart(8, "0");
  return part(BigInt(timeline)) + part(number / perLog) + part(number % perLog);
}
