import type { RestoreDone, RestoreJob, RestoreWish } from "../../agent/restore-port.ts";
import { toWire } from "../../api/wire.ts";
import { Fault } from "../../values/fault.ts";
import { nodeNamed } from "../ask-nodes.ts";
import { refuseBackupFile } from "../backup-location.ts";
import { declined, type CommandContext } from "../context.ts";
import { CommandFailure } from "../failure.ts";
import { planLines, reportLines } from "../render/restore.ts";
import { progressLine, wishedState, wishOf, type RestoreFlags } from "../restore-wish.ts";
import { endProgress } from "../wait-for-node.ts";

const lookEveryMs = 500;
/** An agent that restarts, or a network that is away, for so long does not end the wait. */
const silenceMs = 60_000;

/** `pgherd backup restore --on NODE`: the agent of that node does it, and this command follows. */
export async function restoreOn(
  context: CommandContext,
  flags: RestoreFlags,
  operands: readonly string[],
): Promise<number | undefined> {
  await refuseBackupFile(context);
  const node = nodeNamed(await (await context.reader()).status(), flags.on ?? "");
  if (flags.to === undefined)
    throw new Fault("USAGE", `Where to on ${node.name}?`, { hint: "Add --to DIR." });
  if (flags.binDir !== undefined || flags.server !== undefined || flags.keyFile !== undefined)
    throw new Fault("USAGE", "--bin-dir, --server and --key-file are for a restore on this host", {
      hint: `The agent of ${node.name} uses its own programs, the cluster's backup server, and backup.key_file of its node file.`,
    });
  const to = {
    dir: flags.to,
    tablespacesBelow: flags.tablespaces ?? null,
    start: flags.start === true ? { port: flags.port ?? null, listen: flags.listen } : null,
  };
  const wish = wishOf(wishedState(context, flags, operands), flags, to, absolute);
  absolute(wish.dir);
  if (wish.tablespacesBelow !== null) absolute(wish.tablespacesBelow);
  const agent = await context.agentAt(node.api_url, "write");
  const summary = await agent.planRestore(wish);
  const lines = planLines(summary, wish.target, `${node.name}:${wish.dir}`, context.look());
  if (flags.dryRun === true) {
    context.result(toWire({ dryRun: true, node: node.name, ...summary }), [...lines, "Nothing was changed."]);
    return undefined;
  }
  context.note(lines);
  if (summary.destination === "replaced") {
    const answer = await declined(context, `Write over ${wish.dir} on ${node.name}?`, flags);
    if (answer !== null) return answer;
  }
  const done = await follow(context, agent, wish, node.name);
  endProgress(context);
  const report = [`On the host of ${node.name}:`, ...reportLines(done, context.look())];
  context.result(toWire({ node: node.name, ...summary, ...done }), report);
  return undefined;
}

type Agent = Awaited<ReturnType<CommandContext["agentAt"]>>;

/** Waits for the end; an interrupted command calls the restore off. */
async function follow(
  context: CommandContext,
  agent: Agent,
  wish: RestoreWish,
  node: string,
): Promise<RestoreDone> {
  const { clock, timers, interrupted } = context.io;
  const { id } = await agent.startRestore(wish);
  const draw = progressLine(context);
  let heard = clock.now();
  for (;;) {
    if (interrupted.aborted) {
      await agent.cancelRestore(id).catch(() => undefined);
      throw partly(new Fault("BACKUP_CANCELLED", `The restore on ${node} was called off`), wish);
    }
    const job = await agent.restoreJob(id).catch((thrown: unknown): RestoreJob | null => {
      if (thrown instanceof Fault && thrown.code === "NOT_FOUND")
        throw partly(new Fault("BACKUP_JOB_DIED", `The agent of ${node} was started anew meanwhile`), wish);
      if (clock.now() - heard > silenceMs) throw partly(thrown, wish);
      return null;
    });
    if (job !== null) {
      heard = clock.now();
      if (job.step !== null) draw(job.step);
      if (job.state === "done" && job.result !== null) return job.result;
      if (job.fault !== null) {
        const { code, message, detail, hint } = job.fault;
        const parts = { ...(detail !== null && { detail }), ...(hint !== null && { hint }) };
        throw partly(new Fault(code, message, parts), wish);
      }
    }
    await timers.sleep(lookEveryMs, interrupted);
  }
}

function partly(thrown: unknown, { dir }: RestoreWish): CommandFailure {
  return new CommandFailure(thrown, {
    kind: "partly",
    state: `${dir} may be half filled; no server starts on it, and the same command goes on with it.`,
  });
}

/** A path of another host says nothing about this one's directories. */
function absolute(path: string): string {
  if (path.startsWith("/")) return path;
  throw new Fault("USAGE", `${path} is not an absolute path`, {
    hint: "On another host paths are given from the root on.",
  });
}
