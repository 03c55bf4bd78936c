import type { AskedJob, BackupClient } from "../../api/backup/client.ts";
import { toWire, type Wire } from "../../api/wire.ts";
import type { JobView } from "../../backup/service.ts";
import { Fault, type FaultCode } from "../../values/fault.ts";
import { backupClient, type BackupFlags } from "../backup-location.ts";
import { declined, type ChangeFlags, type CommandContext } from "../context.ts";
import { exitCodes } from "../exit-code.ts";
import { change, isFaultCode } from "../failure.ts";
import { jobText } from "../render/backups.ts";
import { bytesText, countText, spanText } from "../render/quantity.ts";

interface RunFlags extends BackupFlags {
  readonly full?: boolean;
  readonly from?: string;
  readonly label?: string;
  readonly rate?: number;
  readonly checkpoint: "fast" | "spread";
  readonly wait: boolean;
}

const look = "see pgherd backup status";

/** `pgherd backup run` */
export async function run(context: CommandContext, flags: RunFlags): Promise<number | undefined> {
  const client = await backupClient(context, flags, "write");
  const from = flags.from ?? "auto";
  const ended = await runJob(context, client, flags, {
    kind: "base",
    type: flags.full === true ? "full" : "auto",
    from: from === "auto" || from === "primary" || from === "standby" ? from : { node: from },
    max_rate: flags.rate ?? null,
    checkpoint: flags.checkpoint,
    label: flags.label ?? null,
  });
  if (ended === null) return undefined;
  const { result } = ended;
  if (result === null || !("storedBytes" in result)) return exitCodes.failed;
  const restorable = await completed(context, client, result.id);
  context.result(toWire(ended), [
    `${result.id} is ${restorable ? "done" : "copied, and waits for its last WAL"}: ${bytesText(result.bytes)} from ${result.source ?? "the server"} in ${spanText(result.ms)}, ${bytesText(result.storedBytes)} added to the repository.`,
    ...(result.corruptPages === 0
      ? []
      : [
          `! ${countText(result.corruptPages, "page")} of it had a wrong checksum at the source: pgherd backup show ${result.id}`,
        ]),
  ]);
  return result.corruptPages === 0 ? exitCodes.done : exitCodes.failed;
}

const completeWithinMs = 60_000;

/** A backup can be restored once the WAL up to its end is archived: on a quiet cluster that takes a moment. */
async function completed(context: CommandContext, client: BackupClient, id: string): Promise<boolean> {
  const { clock, timers, interrupted } = context.io;
  const until = clock.now() + completeWithinMs;
  while (!interrupted.aborted && clock.now() < until) {
    if ((await client.backup(id)).state === "done") return true;
    await timers.sleep(300, interrupted);
  }
  return false;
}

export interface JobFlags extends BackupFlags {
  readonly wait: boolean;
}

/** `pgherd backup drill [ID]` */
export async function drill(
  context: CommandContext,
  flags: JobFlags,
  names: readonly string[],
): Promise<number | undefined> {
  const client = await backupClient(context, flags, "write");
  const ended = await runJob(context, client, flags, { kind: "drill", backup: names[0] ?? null });
  if (ended === null) return undefined;
  const { result } = ended;
  if (result === null || !("passed" in result)) return exitCodes.failed;
  const found = (await client.drills()).find((each) => each.id === result.id);
  context.result(toWire(found ?? ended), [
    ...(found?.steps ?? []).map(
      (step) =>
        `  ${step.passed ? "✓" : "✗"} ${step.name} ${spanText(step.ms)}${step.detail === "" ? "" : `  ${step.detail}`}`,
    ),
    result.passed
      ? `${result.backup} restores: ${spanText(result.restoreMs)} to copy, ${spanText(result.replayMs)} to replay${found === undefined ? "" : `, to ${found.target}`}.`
      : `${result.backup} does NOT restore as it should.`,
  ]);
  return result.passed ? exitCodes.done : exitCodes.failed;
}

/** `pgherd backup collect` */
export async function collect(
  context: CommandContext,
  flags: JobFlags & { readonly dryRun?: boolean },
): Promise<number | undefined> {
  const client = await backupClient(context, flags, "write");
  const ended = await runJob(context, client, flags, { kind: "collect", dry_run: flags.dryRun === true });
  if (ended === null) return undefined;
  const { result } = ended;
  if (result === null || !("deletedObjects" in result)) return exitCodes.failed;
  const { deletedObjects, deletedBytes, keptBytes } = result;
  const verb = flags.dryRun === true ? "Would delete" : "Deleted";
  context.result(toWire(ended), [
    `${verb} ${countText(deletedObjects, "object")}, ${bytesText(deletedBytes)}; ${bytesText(keptBytes)} stay.`,
  ]);
  return exitCodes.done;
}

/** `pgherd backup cancel JOB` */
export async function cancel(
  context: CommandContext,
  flags: BackupFlags,
  names: readonly string[],
): Promise<undefined> {
  const client = await backupClient(context, flags, "write");
  const job = await change(() => client.cancel(names[0] ?? ""), look);
  context.result(toWire(job), [`Job ${job.id} is told to stop. What was finished stays.`]);
  return undefined;
}

/** `pgherd backup delete ID` */
export async function remove(
  context: CommandContext,
  flags: BackupFlags & ChangeFlags,
  names: readonly string[],
): Promise<number | undefined> {
  const client = await backupClient(context, flags, "write");
  const backup = await client.backup(names[0] ?? "");
  const would = await client.delete(backup.id, true);
  const wal = `${countText(would.walSegments, "segment")} of WAL (${bytesText(would.walBytes)})`;
  if (flags.dryRun === true) {
    context.result(toWire(would), [
      `Would delete ${backup.id}, and ${wal} that only it needs.`,
      "Nothing was changed.",
    ]);
    return undefined;
  }
  const answer = await declined(context, `Delete ${backup.id}, and ${wal} that only it needs?`, flags);
  if (answer !== null) return answer;
  const done = await change(() => client.delete(backup.id, false), look);
  context.result(toWire(done), [
    `${backup.id} is deleted, and ${countText(done.walSegments, "segment")} of WAL (${bytesText(done.walBytes)}).`,
  ]);
  return undefined;
}

/** `pgherd backup keep ID` */
export async function keep(
  context: CommandContext,
  flags: BackupFlags & { readonly standalone?: boolean },
  names: readonly string[],
): Promise<undefined> {
  const client = await backupClient(context, flags, "write");
  const how = flags.standalone === true ? "standalone" : "full";
  const backup = await change(() => client.keep(names[0] ?? "", how), look);
  const what = how === "full" ? "with all WAL after it" : "with the WAL it needs itself";
  context.result(toWire(backup), [`${backup.id} is kept ${what}, until pgherd backup release ${backup.id}.`]);
  return undefined;
}

/** `pgherd backup release ID` */
export async function release(
  context: CommandContext,
  flags: BackupFlags,
  names: readonly string[],
): Promise<undefined> {
  const client = await backupClient(context, flags, "write");
  const backup = await change(() => client.keep(names[0] ?? "", null), look);
  const after = backup.retention === "obsolete" ? "; the next backup deletes it" : "";
  context.result(toWire(backup), [
    `${backup.id} is left to retention again: it is ${backup.retention}${after}.`,
  ]);
  return undefined;
}

/** `pgherd backup point NAME` */
export async function point(
  context: CommandContext,
  flags: BackupFlags,
  names: readonly string[],
): Promise<undefined> {
  const client = await backupClient(context, flags, "write");
  const made = await change(() => client.point(names[0] ?? ""), "a restore point of this name may be there");
  context.result(toWire(made), [
    `Restore point ${made.name} is at ${made.lsn}${made.timeline === null ? "" : ` on timeline ${made.timeline}`}: pgherd backup restore --name '${made.name}' --to DIR`,
  ]);
  return undefined;
}

/** `pgherd backup wal switch` */
export async function walSwitch(
  context: CommandContext,
  flags: BackupFlags & { readonly archive?: boolean; readonly timeout: number },
): Promise<undefined> {
  const client = await backupClient(context, flags, "write");
  const done = await change(() => client.walSwitch(flags.archive === true ? flags.timeout : null), look);
  const archived = done.archived === true ? ", and it is in the archive" : "";
  context.result(toWire(done), [
    done.segment === null
      ? `There was nothing to end: nothing was written since the last switch (${done.lsn}).`
      : `${done.segment} is ended at ${done.lsn}${archived}.`,
  ]);
  return undefined;
}

/** `pgherd backup wal reset` */
export async function walReset(
  context: CommandContext,
  flags: BackupFlags & ChangeFlags,
): Promise<number | undefined> {
  const client = await backupClient(context, flags, "write");
  const { receiver } = await client.status();
  const at =
    receiver === null
      ? "the receiver does not run"
      : `the receiver is at ${receiver.flushed ?? "?"}, ${receiver.state}`;
  if (flags.dryRun === true) {
    context.result({ dry_run: true, receiver: toWire(receiver) }, [
      `Would give up the WAL no server has any more, record a gap, and take a backup (${at}).`,
      "Nothing was changed.",
    ]);
    return undefined;
  }
  const answer = await declined(context, `Give up WAL that no server has any more (${at})?`, flags);
  if (answer !== null) return answer;
  await change(() => client.walReset(), look);
  context.result({ reset: true }, [
    "The receiver goes on where the server still has WAL; pgherd backup status shows it.",
  ]);
  return undefined;
}

/** How often a job is looked at, and how often a line is written where there is no terminal. */
const lookMs = 300;
const lineMs = 5_000;

/** Starts a job and follows it to its end. @returns null = it is not waited for @throws the job's own fault */
/** Starts a job and waits for its end; null = it was not to be waited for. @throws Fault the job's own */
export async function runJob(
  context: CommandContext,
  client: BackupClient,
  flags: JobFlags,
  asked: AskedJob,
): Promise<Wire<JobView> | null> {
  const started = await change(() => client.start(asked), look);
  if (!flags.wait) {
    context.result(toWire(started), [`Job ${started.id} is ${started.state}; ${look}.`]);
    return null;
  }
  const ended = await follow(context, client, started.id);
  if (ended.state === "done") return ended;
  const { fault } = ended;
  const code: FaultCode = fault !== null && isFaultCode(fault.code) ? fault.code : "INTERNAL";
  throw new Fault(code, fault?.message ?? `The job is ${ended.state}`, {
    ...(fault?.detail != null && { detail: fault.detail }),
    ...(fault?.hint != null && { hint: fault.hint }),
  });
}

async function follow(context: CommandContext, client: BackupClient, id: string): Promise<Wire<JobView>> {
  const { io } = context;
  let saidAt = io.clock.now();
  for (;;) {
    const job = await client.job(id);
    const over = job.state !== "waiting" && job.state !== "running";
    if (io.stderr.terminal) io.stderr.write(over ? "\r\u001b[K" : `\r\u001b[K~ ${jobText(job).slice(0, 90)}`);
    else if (!over && io.clock.now() - saidAt > lineMs) {
      saidAt = io.clock.now();
      context.note([`~ ${jobText(job)}`]);
    }
    if (over) return job;
    await io.timers.sleep(lookMs, io.interrupted);
    if (io.interrupted.aborted)
      throw new Fault("TIMEOUT", "Interrupted before the end", {
        hint: `The job goes on; pgherd backup cancel ${id} ends it.`,
      });
  }
}
