import type { MoveInput, MovePlan } from "../../agent/service.ts";
import { Fault } from "../../values/fault.ts";
import type { ApiClient } from "../../api/client.ts";
import { declined, type ChangeFlags, type CommandContext } from "../context.ts";
import { exitCodes } from "../exit-code.ts";
import { change, CommandFailure, isFaultCode } from "../failure.ts";
import { moveOutcomeText, movePlanLines, stepLines } from "../render/move.ts";
import { sessionsMoved, showSteps } from "../move-watch.ts";
import { dateTimeText } from "../render/quantity.ts";
import { cutWarning, movedText } from "../render/routers.ts";
import { wrapTo } from "../render/width.ts";

interface MoveFlags extends ChangeFlags {
  readonly timeout: number;
}

interface SwitchoverOptions extends MoveFlags {
  readonly to?: string;
  readonly from?: string;
  readonly at?: string;
  readonly cancel?: boolean;
}

interface FailoverOptions extends MoveFlags {
  readonly to: string;
  readonly acceptLoss?: boolean;
}

/** `pgherd switchover` */
export async function switchover(
  context: CommandContext,
  options: SwitchoverOptions,
): Promise<number | undefined> {
  if (options.cancel === true) return cancel(context, options);
  const input: MoveInput = {
    kind: "switchover",
    leader: options.from ?? null,
    candidate: options.to ?? null,
    scheduledAt: options.at === undefined ? null : scheduleTime(options.at),
    acceptLoss: false,
  };
  return move(context, input, options);
}

/** `pgherd failover` */
export async function failover(
  context: CommandContext,
  options: FailoverOptions,
): Promise<number | undefined> {
  const input: MoveInput = {
    kind: "failover",
    leader: null,
    candidate: options.to,
    scheduledAt: null,
    acceptLoss: options.acceptLoss === true,
  };
  return move(context, input, options);
}

/** A time without its offset would mean another moment on another host. */
function scheduleTime(text: string): string {
  const form = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)$/;
  const iso = text.replace(" ", "T");
  if (!form.test(text) || Number.isNaN(Date.parse(iso)))
    throw new Fault("USAGE", `${text} is not a time with an offset`, {
      hint: "For example 2026-11-21T02:00:00+01:00, or 2026-11-21T01:00:00Z.",
    });
  return iso;
}

async function move(
  context: CommandContext,
  input: MoveInput,
  options: MoveFlags,
): Promise<number | undefined> {
  const client = await context.writer();
  const before = options.dryRun === true ? null : (await client.status()).timeline;
  const plan = await client.planMove(input);
  if (options.dryRun === true) {
    context.result({ dry_run: true, ...plan }, [
      ...movePlanLines(plan, context.look()),
      "Nothing was changed.",
    ]);
    return plan.checks.every((check) => check.ok) ? exitCodes.done : exitCodes.failed;
  }
  const failed = plan.checks.filter((check) => !check.ok);
  if (failed.length > 0) context.note(movePlanLines(plan, context.look()));
  const answer = await declined(context, question(input, plan), options);
  if (answer !== null) return answer;
  const verb = input.scheduledAt === null ? "Runs:" : "Will run:";
  context.note(stepLines(plan.steps, context.look()).map((line) => line.replace("Would run:", verb)));
  const moving = change(() => client.move(input, options.timeout), "see pgherd status");
  if (input.scheduledAt === null) await showSteps(context, client, plan, moving);
  const outcome = await moving;
  if (outcome.code !== null && !outcome.done) {
    const code = isFaultCode(outcome.code) ? outcome.code : "SWITCHOVER_FAILED";
    throw new CommandFailure(new Fault(code, outcome.message, { hint: "See pgherd explain." }), {
      kind: "nothing",
    });
  }
  if (input.scheduledAt !== null) {
    const when = dateTimeText(input.scheduledAt, context.look().zone);
    context.result(outcome, [`The switchover ${plan.from ?? "?"} -> ${plan.to} is scheduled for ${when}.`]);
    return undefined;
  }
  const timeline = outcome.done ? await newTimeline(context, client, before) : null;
  const moved = outcome.done ? await sessionsMoved(context, client, plan, outcome.id) : null;
  const text = moveOutcomeText(outcome, timeline);
  context.result(moved === null ? outcome : { ...outcome, sessions: moved }, [
    ...wrapTo(moved === null ? text : `${text} ${movedText(moved)}`, context.look().width),
  ]);
  return undefined;
}

function question(input: MoveInput, plan: MovePlan): string {
  const { from, to } = plan;
  const when = input.scheduledAt === null ? "" : ` at ${dateTimeText(input.scheduledAt, "local")}`;
  const loss = input.acceptLoss ? " Commits may be lost." : "";
  return from === null
    ? `Make ${to} primary${when}?${loss}`
    : `Move the primary from ${from} to ${to}${when}?${loss}${cutWarning(plan)}`;
}

/** The new leader tells its timeline with its next record; null when it does not soon: the move itself is done. */
async function newTimeline(
  context: CommandContext,
  client: ApiClient,
  before: number | null,
): Promise<number | null> {
  const { timers, interrupted } = context.io;
  for (let looks = 0; looks < 8; looks += 1) {
    const timeline = await client.status().then(
      (status) => (status.leader === null ? null : status.timeline),
      () => null,
    );
    if (timeline !== null && timeline !== before) return timeline;
    await timers.sleep(250, interrupted);
  }
  return null;
}

async function cancel(context: CommandContext, options: SwitchoverOptions): Promise<number | undefined> {
  const reader = await context.reader();
  const scheduled = (await reader.status()).scheduled_switchover;
  if (scheduled === null)
    throw new Fault("NOT_FOUND", "No switchover is scheduled", { hint: "See pgherd status." });
  const what = `the switchover at ${dateTimeText(scheduled.at, "local")}`;
  if (options.dryRun === true) {
    context.result({ dry_run: true, would_cancel: scheduled }, [
      `Would cancel ${what}.`,
      "Nothing was changed.",
    ]);
    return undefined;
  }
  const answer = await declined(context, `Cancel ${what}?`, options);
  if (answer !== null) return answer;
  const client = await context.writer();
  await change(() => client.cancelMove(), "see pgherd status");
  context.result({ cancelled: scheduled }, [`Cancelled ${what}.`]);
  return undefined;
}
