import { toWire } from "../../api/wire.ts";
import { toFault } from "../../values/fault.ts";
import { backupReader, type BackupFlags } from "../backup-location.ts";
import type { CommandContext } from "../context.ts";
import { exitCodes } from "../exit-code.ts";
import { nagiosCodes } from "../node-check.ts";
import { checkCode, checkLines, forecastLines, nagiosCheckLine, walLines } from "../render/backup-wal.ts";
import { backupLines, backupListLines, backupStatusLines, retentionText } from "../render/backups.ts";

/** `pgherd backup list` */
export async function list(context: CommandContext, flags: BackupFlags): Promise<undefined> {
  const reader = await backupReader(context, flags);
  try {
    const [backups, status] = [await reader.backups(), await reader.status()];
    context.result(toWire(backups), backupListLines(backups, status.restorable, context.look()));
  } finally {
    await reader.close();
  }
  return undefined;
}

/** `pgherd backup show` */
export async function show(
  context: CommandContext,
  flags: BackupFlags,
  names: readonly string[],
): Promise<undefined> {
  const reader = await backupReader(context, flags);
  try {
    const backup = await reader.backup(names[0] ?? "latest");
    context.result(toWire(backup), backupLines(backup, context.look()));
  } finally {
    await reader.close();
  }
  return undefined;
}

/** `pgherd backup status` */
export async function status(context: CommandContext, flags: BackupFlags): Promise<number> {
  const reader = await backupReader(context, flags);
  try {
    const seen = await reader.status();
    context.result(toWire(seen), backupStatusLines(seen, context.look()));
    return seen.problem === null ? exitCodes.done : exitCodes.failed;
  } finally {
    await reader.close();
  }
}

/** `pgherd backup check`: exit codes are Nagios'; with --nagios whatever happens is told in its one line. */
export async function check(
  context: CommandContext,
  flags: BackupFlags & { readonly nagios?: boolean },
): Promise<number> {
  try {
    const reader = await backupReader(context, flags);
    try {
      const { cluster } = await reader.status();
      const items = await reader.check();
      const lines =
        flags.nagios === true
          ? [nagiosCheckLine(cluster, items)]
          : checkLines(cluster, items, context.look());
      context.result(toWire({ cluster, items }), lines);
      return checkCode(items);
    } finally {
      await reader.close();
    }
  } catch (thrown) {
    if (flags.nagios !== true) throw thrown;
    const report = toFault(thrown).report();
    const text = [report.message, report.detail].filter((part) => part !== null).join(": ");
    context.result(report, [`PGHERD_BACKUP UNKNOWN - ${text.replaceAll("|", "/").replaceAll("\n", "; ")}`]);
    return nagiosCodes.UNKNOWN;
  }
}

/** `pgherd backup forecast` */
export async function forecast(context: CommandContext, flags: BackupFlags): Promise<undefined> {
  const reader = await backupReader(context, flags);
  try {
    const [seen, { retention }, expired] = [
      await reader.forecast(),
      await reader.status(),
      await reader.expired(),
    ];
    const due =
      expired.length === 0 ? [] : [`Retention would delete now: ${expired.map(({ id }) => id).join(", ")}.`];
    context.result(toWire({ ...seen, retention, expired: expired.map(({ id }) => id) }), [
      `kept      ${retentionText(retention)}`,
      ...forecastLines(seen),
      ...due,
    ]);
  } finally {
    await reader.close();
  }
  return undefined;
}

/** `pgherd backup wal list` */
export async function walList(
  context: CommandContext,
  flags: BackupFlags & { readonly limit: number },
): Promise<undefined> {
  const reader = await backupReader(context, flags);
  try {
    const [wal, segments] = [await reader.wal(), await reader.segments(flags.limit)];
    context.result(toWire({ ...wal, list: segments }), walLines(wal, segments, context.look()));
  } finally {
    await reader.close();
  }
  return undefined;
}
