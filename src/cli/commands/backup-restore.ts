import { resolve } from "node:path";
import type { BackupSettings } from "../../config/backup-config.ts";
import { toWire } from "../../api/wire.ts";
import type { BackupRecord } from "../../backup/catalogue/records.ts";
import { examinePlace, type RestoreProgress } from "../../backup/restore/fill.ts";
import { openRestoreSource, type OpenedSource } from "../../backup/restore/open-source.ts";
import { refusalFault } from "../../backup/restore/refusal.ts";
import {
  restore as restoreTo,
  type RestoreOptions,
  type StartOptions,
} from "../../backup/restore/restore.ts";
import { planRestore } from "../../backup/restore/source.ts";
import type { RestoreRequest, RestoreTarget } from "../../backup/restore/target.ts";
import { Fault } from "../../values/fault.ts";
import { parseLsn } from "../../values/lsn.ts";
import { parseTimeline } from "../../values/names.ts";
import { locateBackups, type BackupFlags } from "../backup-location.ts";
import { declined, type ChangeFlags, type CommandContext } from "../context.ts";
import { CommandFailure } from "../failure.ts";
import { parseMoment } from "../restore-time.ts";
import { planLines, reportLines } from "../render/restore.ts";
import { bytesText } from "../render/quantity.ts";
import { endProgress } from "../wait-for-node.ts";

interface RestoreFlags extends BackupFlags, ChangeFlags {
  readonly to?: string;
  readonly time?: string;
  readonly lsn?: string;
  readonly xid?: number;
  readonly name?: string;
  readonly immediate?: boolean;
  readonly timeline?: number;
  readonly inclusive?: boolean;
  readonly exclusive?: boolean;
  readonly tablespace?: readonly string[];
  readonly tablespaces?: string;
  readonly verify?: boolean;
  readonly delta?: boolean;
  readonly start?: boolean;
  readonly port?: number;
  readonly listen: string;
  readonly jobs: number;
  readonly binDir?: string;
}

/** `pgherd backup restore` */
export async function restore(
  context: CommandContext,
  flags: RestoreFlags,
  operands: readonly string[],
): Promise<number | undefined> {
  if (flags.start !== true && flags.port !== undefined)
    throw new Fault("USAGE", "--port is for a server that is started", { hint: "Add --start." });
  const dir = resolve(context.io.directory, flags.to ?? "");
  return run(context, flags, operands, {
    dir,
    below: flags.tablespaces === undefined ? null : resolve(context.io.directory, flags.tablespaces),
    start: flags.start === true ? { port: flags.port ?? null, listen: flags.listen } : null,
  });
}

/** `pgherd backup clone` */
export async function clone(
  context: CommandContext,
  flags: RestoreFlags,
  operands: readonly string[],
): Promise<number | undefined> {
  const { cluster } = await locateBackups(context, flags);
  const dir = resolve(context.io.directory, flags.to ?? `${cluster}-clone`);
  return run(context, flags, operands, {
    dir,
    // A copy beside the cluster must never take the cluster's own places.
    below: resolve(context.io.directory, flags.tablespaces ?? `${dir}-tablespaces`),
    start: { port: flags.port ?? null, listen: flags.listen },
  });
}

async function run(
  context: CommandContext,
  flags: RestoreFlags,
  operands: readonly string[],
  to: { readonly dir: string; readonly below: string | null; readonly start: StartOptions | null },
): Promise<number | undefined> {
  const { io } = context;
  const target = targetOf(context, flags);
  const location = await locateBackups(context, flags);
  const source = await sourceOf(context, location.settings, location.cluster);
  try {
    const request: RestoreRequest = {
      backup: backupNamed(source.catalogue.backups(), operands[0]),
      target,
      inclusive: flags.exclusive !== true,
      timeline: flags.timeline === undefined ? null : (parseTimeline(flags.timeline) ?? null),
    };
    const result = await planRestore(source, request, io.clock, io.interrupted);
    if (result.kind === "refused") throw refusalFault(result.refusal);
    const { plan } = result;
    const options: RestoreOptions = {
      dir: to.dir,
      tablespaces: { each: placesOf(context, flags.tablespace ?? []), below: to.below },
      overwrite: flags.delta === true,
      parallel: flags.jobs,
      verify: flags.verify === true,
      binDir: flags.binDir === undefined ? null : resolve(io.directory, flags.binDir),
      archiving: false,
      start: to.start,
      clock: io.clock,
      timers: io.timers,
      signal: io.interrupted,
      onProgress: progressLine(context),
    };
    const place = await examinePlace(plan, options);
    const drill = source.catalogue.drills().findLast((each) => each.passed);
    const proven = drill === undefined ? null : source.catalogue.backup(drill.backup);
    const estimateMs =
      drill === undefined || proven === null || proven.bytes === 0
        ? null
        : ((drill.restoreMs + drill.replayMs) * plan.backup.bytes) / proven.bytes;
    const lines = planLines(plan, target, { ...place, dir: to.dir, estimateMs }, context.look());
    const document = {
      backup: plan.backup.id,
      timeline: plan.timeline,
      stop: plan.stop,
      wal_from: plan.walFrom,
      wal_to: plan.walTo,
      segments: plan.files.length,
      last_transaction: plan.lastTransaction?.time ?? null,
      needed_bytes: place.neededBytes,
      free_bytes: place.freeBytes,
      estimate_ms: estimateMs === null ? null : Math.round(estimateMs),
      notes: plan.notes,
    };
    if (flags.dryRun === true) {
      context.result(toWire({ dry_run: true, ...document }), [...lines, "Nothing was changed."]);
      return undefined;
    }
    context.note(lines);
    // An empty place needs no question: nothing can be lost.
    if (place.destination.kind === "replaced") {
      const answer = await declined(context, `Write over ${to.dir}?`, flags);
      if (answer !== null) return answer;
    }
    const report = await restoreTo(source, plan, options).catch((thrown: unknown) => {
      throw new CommandFailure(thrown, {
        kind: "partly",
        state: `${to.dir} may be half filled; no server starts on it, and the same command goes on with it.`,
      });
    });
    endProgress(context);
    context.result(toWire({ ...document, ...report }), reportLines(plan, report, context.look()));
    return undefined;
  } finally {
    await source.close();
  }
}

/** @throws Fault USAGE when several are named, or one cannot be read */
function targetOf(context: CommandContext, flags: RestoreFlags): RestoreTarget {
  const targets: RestoreTarget[] = [];
  if (flags.time !== undefined) {
    const now = new Date(context.io.clock.wall());
    const zone = context.globals.utc === true ? "utc" : "local";
    targets.push({ kind: "time", time: parseMoment(flags.time, now, zone) });
  }
  if (flags.lsn !== undefined) {
    const lsn = parseLsn(flags.lsn);
    if (lsn === undefined)
      throw new Fault("USAGE", `${flags.lsn} is not a position in the WAL`, {
        hint: "For example 0/5A2F1C8.",
      });
    targets.push({ kind: "lsn", lsn });
  }
  if (flags.xid !== undefined) targets.push({ kind: "xid", xid: flags.xid });
  if (flags.name !== undefined) targets.push({ kind: "name", name: flags.name });
  if (flags.immediate === true) targets.push({ kind: "immediate" });
  if (targets.length > 1 || (flags.inclusive === true && flags.exclusive === true))
    throw new Fault("USAGE", "Only one target can be reached", {
      hint: "Give one of --time, --lsn, --xid, --name, --immediate; --inclusive or --exclusive.",
    });
  return targets[0] ?? { kind: "latest" };
}

/** A backup by its id, a beginning of it, or its label; null = the best one. @throws Fault BACKUP_NOT_FOUND */
function backupNamed(backups: readonly BackupRecord[], name: string | undefined): string | null {
  if (name === undefined || name === "latest") return null;
  if (name === "oldest") return backups.find((each) => each.state === "done")?.id ?? null;
  const found = backups.filter((each) => each.id === name || each.id.startsWith(name) || each.label === name);
  const exact = found.find((each) => each.id === name) ?? (found.length === 1 ? found[0] : undefined);
  if (exact !== undefined) return exact.id;
  throw new Fault(
    "BACKUP_NOT_FOUND",
    found.length === 0 ? `There is no backup ${name}` : `${name} means several backups`,
    {
      detail:
        found.length === 0
          ? `The newest: ${backups
              .slice(-3)
              .map((each) => each.id)
              .join(", ")}.`
          : found.map((each) => each.id).join(", "),
      hint: "See pgherd backup list.",
    },
  );
}

function placesOf(context: CommandContext, texts: readonly string[]): ReadonlyMap<string, string> {
  return new Map(
    texts.map((text) => {
      const at = text.indexOf("=");
      if (at <= 0 || at === text.length - 1)
        throw new Fault("USAGE", `--tablespace ${text} names no place`, {
          hint: "For example --tablespace 16420=/srv/restore-fast.",
        });
      return [text.slice(0, at), resolve(context.io.directory, text.slice(at + 1))] as const;
    }),
  );
}

/** The cluster in the repository itself. */
async function sourceOf(
  context: CommandContext,
  settings: BackupSettings | null,
  cluster: string,
): Promise<OpenedSource> {
  if (settings === null)
    throw new Fault("USAGE", "A restore reads the repository, and no backup file names it", {
      hint: "Give the backup server's file, or one that names the same repository: --config BACKUP.yml",
    });
  return openRestoreSource(settings, cluster, {
    clock: context.io.clock,
    timers: context.io.timers,
    log: (level, event, fields) => {
      if (level === "warn" || level === "error") context.note([`? ${event} ${JSON.stringify(fields ?? {})}`]);
    },
  });
}

/** On a terminal one line that is redrawn, elsewhere a line for each step. */
function progressLine(context: CommandContext): (progress: RestoreProgress) => void {
  const { stderr } = context.io;
  const { clock } = context.io;
  let last = "";
  let drawn = -1_000;
  return ({ step, done, total }) => {
    const kind = step.replace(/[0-9A-F]{24}/, "");
    if (kind === last && clock.now() - drawn < 200) return;
    drawn = clock.now();
    const counted = step === "copying" ? bytesText(done ?? 0) : String(done ?? "");
    const share =
      done === null || total === null || total === 0
        ? ""
        : ` ${Math.floor((done / total) * 100)} %, ${counted}`;
    if (stderr.terminal) stderr.write(`\r\u001b[K  ${step}${share}`);
    else if (kind !== last) stderr.write(`  ${step}\n`);
    last = kind;
  };
}
