import type { MoveOutcome } from "../../cluster/records.ts";
import type { MovePlan } from "../../agent/service.ts";
import type { Look } from "./look.ts";
import { planSessionLines } from "./routers.ts";
import { markedLines } from "./status.ts";
import { printable, wrapTo } from "./width.ts";

/** What a switchover or failover would do: every precheck with its result, then the steps. Pure. */
export function movePlanLines(plan: MovePlan, look: Look): string[] {
  const from = plan.from ?? "no leader";
  const failed = plan.checks.filter((check) => !check.ok);
  const verdict =
    failed.length === 0
      ? "every check passed"
      : `${failed.length} of ${plan.checks.length} checks failed, it would be refused`;
  const lines = [`${look.paint("bold", `${from} -> ${plan.to}`)}: ${verdict}.`];
  for (const check of plan.checks) {
    lines.push(
      ...markedLines(
        check.ok ? " " : "!",
        `${check.ok ? "ok  " : "fail"}  ${check.name}: ${check.detail}`,
        look,
      ),
    );
  }
  lines.push(...planSessionLines(plan, look), ...stepLines(plan.steps, look));
  return lines;
}

/** `Would run: a · b · c`, broken between steps. */
export function stepLines(steps: readonly string[], look: Look): string[] {
  if (steps.length === 0) return [];
  const glued = steps.map((step) => printable(step).replaceAll(" ", "\u00a0")).join(" · ");
  return wrapTo(`Would\u00a0run: ${glued}`, look.width).map(
    (line, index) => `${index === 0 ? "" : "  "}${line.replaceAll("\u00a0", " ")}`,
  );
}

/** How a switchover or failover ended, and on which timeline the new leader is when that is known. */
export function moveOutcomeText(outcome: MoveOutcome, timeline: number | null): string {
  const sentence = /[.!?]$/.test(outcome.message) ? outcome.message : `${outcome.message}.`;
  return outcome.done && timeline !== null ? `${sentence} It is on timeline ${timeline}.` : sentence;
}
