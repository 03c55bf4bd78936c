import type { RecoveryPicture, RecoveryPlan } from "../../agent/recovery.ts";
import { toWire, type Wire } from "../../api/wire.ts";
import { Fault, faultCatalogue, type FaultCode } from "../../values/fault.ts";
import { nodeNamed } from "../ask-nodes.ts";
import { refuseBackupFile } from "../backup-location.ts";
import { declinedByName, type ChangeFlags, type CommandContext } from "../context.ts";
import { CommandFailure } from "../failure.ts";
import { bytesText, momentText } from "../render/quantity.ts";
import { wayLine } from "../render/restore.ts";
import { progressLine, wishedState, type TargetFlags } from "../restore-wish.ts";
import { endProgress } from "../wait-for-node.ts";

type Picture = Wire<RecoveryPicture>;

const lookEveryMs = 500;
/** The leader is another program for a moment while the cluster changes its line. */
const silenceMs = 120_000;

interface RecoverFlags extends TargetFlags, ChangeFlags {
  readonly cluster?: string;
  readonly cancel?: boolean;
}

/** `pgherd backup recover`: the whole cluster goes back. It only asks and follows; without a target it follows what is under way. */
export async function recover(
  context: CommandContext,
  flags: RecoverFlags,
  operands: readonly string[],
): Promise<number | undefined> {
  const state = wishedState(context, flags, operands);
  await refuseBackupFile(context);
  const status = await (await context.reader()).status();
  if (flags.cluster !== undefined && status.cluster !== flags.cluster)
    throw new Fault("USAGE", `This is the cluster ${status.cluster}, not ${flags.cluster}`, {
      hint: "Another one is reached with --api, --config or --dir.",
    });
  if (status.leader === null)
    throw new Fault("NO_LEADER", "Nobody leads the cluster: its leader is who puts it back", {
      hint: "See pgherd status. Without a cluster: pgherd backup restore --to DIR.",
    });
  const leader = nodeNamed(status, status.leader);
  const agent = await context.agentAt(leader.api_url, "write");
  if (flags.cancel === true) {
    await agent.cancelRecovery();
    context.result({ cancelled: true }, ["It was called off: the cluster goes on as it was."]);
    return undefined;
  }
  const under = await agent.recovery();
  if (under !== null && under.record.phase !== "done" && under.record.phase !== "failed") {
    const { target } = under.record;
    if (state.target.kind !== "latest" && targetOf(under.record.wish) !== JSON.stringify(state.target))
      throw new Fault("OPERATION_RUNNING", `The cluster is being restored to ${target} already`, {
        hint: "pgherd backup recover follows it, pgherd backup recover --cancel calls it off.",
      });
    context.note([`The cluster is being restored to ${target} already; this follows it.`]);
    ended(context, await follow(context, under.record.id));
    return undefined;
  }
  if (state.target.kind === "latest")
    throw new Fault("USAGE", "Back to which state?", {
      hint: "Give one of --time, --lsn, --xid, --name, --immediate. What can be reached: pgherd backup list.",
    });
  const plan = await agent.planRecovery(state, flags.jobs);
  const lines = planLines(context, plan, state);
  if (flags.dryRun === true) {
    context.result(toWire({ dryRun: true, ...plan }), [...lines, "Nothing was changed."]);
    return undefined;
  }
  context.note(lines);
  const answer = await declinedByName(
    context,
    `The whole cluster ${status.cluster} goes back, and loses what came after.`,
    status.cluster,
    { ...flags, given: { option: "--cluster", value: flags.cluster } },
  );
  if (answer !== null) return answer;
  const { record } = await agent.startRecovery(state, flags.jobs, status.cluster);
  ended(context, await follow(context, record.id));
  return undefined;
}

/** The target in a record's wish; null = not to be read. */
function targetOf(wish: string): string | null {
  try {
    const { state } = JSON.parse(wish) as { readonly state?: { readonly target?: unknown } };
    return JSON.stringify(state?.target ?? null);
  } catch {
    return null;
  }
}

function planLines(
  context: CommandContext,
  plan: Wire<RecoveryPlan>,
  { target }: ReturnType<typeof wishedState>,
): readonly string[] {
  const look = context.look();
  const { restore, node, standbys } = plan;
  const since = restore.lastTransaction;
  const until = since === null ? "that state" : momentText(since, look.nowMs, look.zone);
  const bytes = plan.lostBytes === null ? "" : ` (${bytesText(plan.lostBytes)} of WAL by now)`;
  return [
    wayLine(restore, target, look),
    `! Everything after ${until} is lost to the cluster${bytes}, also what is committed while this runs.`,
    `${node} restores it beside its data (${bytesText(restore.neededBytes)} needed, ${bytesText(restore.freeBytes)} free) and goes on serving;`,
    `then PostgreSQL stops, ${node} starts with the restored data on a new timeline${standbys.length === 0 ? "" : `, ${standbys.join(", ")} follow it anew`}.`,
    ...restore.notes.map((note) => `! ${note}`),
  ];
}

async function follow(context: CommandContext, id: string): Promise<Picture> {
  const { clock, timers, interrupted } = context.io;
  const draw = progressLine(context);
  let heard = clock.now();
  for (;;) {
    const seen = await looked(context).catch((thrown: unknown) => {
      if (clock.now() - heard > silenceMs) throw partly(thrown);
      return null;
    });
    if (seen !== null) {
      heard = clock.now();
      const { record, step } = seen;
      if (record.id !== id)
        throw partly(new Fault("DCS_CONFLICT", "Another recovery was asked for meanwhile"));
      if (record.phase === "done" || record.phase === "failed") return seen;
      draw(step ?? { step: record.phase, done: null, total: null });
    }
    if (interrupted.aborted)
      throw partly(new Fault("TIMEOUT", "The command was interrupted; the recovery goes on"));
    await timers.sleep(lookEveryMs, interrupted);
  }
}

/** What whoever leads now says. */
async function looked(context: CommandContext): Promise<Picture | null> {
  const status = await (await context.reader()).status();
  const node = status.nodes.find((each) => each.name === status.leader) ?? status.nodes[0];
  return node === undefined ? null : (await context.agentAt(node.api_url, "write")).recovery();
}

function ended(context: CommandContext, { record }: Picture): void {
  endProgress(context);
  const look = context.look();
  if (record.problem !== null) {
    const { code, message, detail, hint } = record.problem;
    const known = code in faultCatalogue ? (code as FaultCode) : "INTERNAL";
    throw new CommandFailure(
      new Fault(known, message, { ...(detail !== null && { detail }), ...(hint !== null && { hint }) }),
      { kind: "nothing" },
    );
  }
  const { reached, left } = record;
  const last = reached?.time ?? null;
  context.result(toWire(record), [
    `The cluster was restored to ${record.target}: it really ends at ${reached?.lsn ?? "?"}${last === null ? "" : `, after the transaction of ${momentText(last, look.nowMs, look.zone)}`}, and goes on on timeline ${record.timeline}.`,
    ...(left === null
      ? []
      : [
          `${bytesText(left.bytes)} of WAL were left with timeline ${left.timeline}; the archive still has them: what came after comes back with backup recover --timeline ${left.timeline} --time ...`,
        ]),
    `${record.node} leads; the others follow it as they are copied or rewound: pgherd status --watch. A base backup was asked for.`,
  ]);
}

function partly(thrown: unknown): CommandFailure {
  return new CommandFailure(thrown, {
    kind: "partly",
    state:
      "pgherd backup recover follows the recovery, with --cancel it calls it off; pgherd status shows the cluster.",
  });
}
