import { resolve } from "node:path";
import type { RestoreWish } from "../../agent/restore-port.ts";
import { toWire } from "../../api/wire.ts";
import { restore as restoreTo } from "../../backup/restore/restore.ts";
import { doneOf, placeOptions, planWish } from "../../backup/restore/wish.ts";
import { Fault } from "../../values/fault.ts";
import { locateBackups } from "../backup-location.ts";
import { declined, type CommandContext } from "../context.ts";
import { CommandFailure } from "../failure.ts";
import { planLines, reportLines } from "../render/restore.ts";
import { openSource } from "../restore-source.ts";
import { progressLine, resolvedHere, wishedState, wishOf, type RestoreFlags } from "../restore-wish.ts";
import { endProgress } from "../wait-for-node.ts";

/** `pgherd backup restore` */
export async function restore(
  context: CommandContext,
  flags: RestoreFlags,
  operands: readonly string[],
): Promise<number | undefined> {
  if (flags.start !== true && flags.port !== undefined)
    throw new Fault("USAGE", "--port is for a server that is started", { hint: "Add --start." });
  if (flags.on !== undefined)
    return (await import("./backup-restore-on.ts")).restoreOn(context, flags, operands);
  if (flags.to === undefined)
    throw new Fault("USAGE", "Where to?", {
      hint: "Name a directory with --to DIR. The whole cluster goes back with pgherd backup recover.",
    });
  const resolved = resolvedHere(context);
  const to = {
    dir: resolved(flags.to),
    tablespacesBelow: flags.tablespaces === undefined ? null : resolved(flags.tablespaces),
    start: flags.start === true ? { port: flags.port ?? null, listen: flags.listen } : null,
  };
  return run(context, flags, wishOf(wishedState(context, flags, operands), flags, to, resolved));
}

/** `pgherd backup clone` */
export async function clone(
  context: CommandContext,
  flags: RestoreFlags,
  operands: readonly string[],
): Promise<number | undefined> {
  const { cluster } = await locateBackups(context, flags);
  const resolved = resolvedHere(context);
  const dir = resolved(flags.to ?? `${cluster}-clone`);
  const to = {
    dir,
    // A copy beside the cluster must never take the cluster's own places.
    tablespacesBelow: resolved(flags.tablespaces ?? `${dir}-tablespaces`),
    start: { port: flags.port ?? null, listen: flags.listen },
  };
  return run(context, flags, wishOf(wishedState(context, flags, operands), flags, to, resolved));
}

async function run(
  context: CommandContext,
  flags: RestoreFlags,
  wish: RestoreWish,
): Promise<number | undefined> {
  const { io } = context;
  const source = await openSource(context, flags);
  try {
    const onlyLook = flags.dryRun === true;
    const ports = { clock: io.clock, signal: io.interrupted, onlyLook };
    const { plan, summary } = await planWish(source, wish, ports);
    const lines = planLines(summary, wish.target, wish.dir, context.look());
    if (onlyLook) {
      context.result(toWire({ dryRun: true, ...summary }), [...lines, "Nothing was changed."]);
      return undefined;
    }
    context.note(lines);
    // An empty place needs no question: nothing can be lost.
    if (summary.destination === "replaced") {
      const answer = await declined(context, `Write over ${wish.dir}?`, flags);
      if (answer !== null) return answer;
    }
    const report = await restoreTo(source, plan, {
      ...placeOptions(wish),
      binDir: flags.binDir === undefined ? null : resolve(io.directory, flags.binDir),
      archiving: false,
      clock: io.clock,
      timers: io.timers,
      signal: io.interrupted,
      onProgress: progressLine(context),
    }).catch((thrown: unknown) => {
      throw new CommandFailure(thrown, {
        kind: "partly",
        state: `${wish.dir} may be half filled; no server starts on it, and the same command goes on with it.`,
      });
    });
    endProgress(context);
    const done = doneOf(plan, report);
    context.result(toWire({ ...summary, ...done }), reportLines(done, context.look()));
    return undefined;
  } finally {
    await source.close();
  }
}
