import type { MoveOutcome } from "../../cluster/records.ts";
import type { MovePlan } from "../../agent/service.ts";
import type { Look } from "./look.ts";
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
  lines.push(...stepLines(plan.steps, look));
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

/** How a switchover or failover ended. */
export function moveOutcomeText(outcome: MoveOutcome, timeline: number | null): string {
  if (!outcome.done) return outcome.message;
  const where = timeline === null ? "" : ` on timeline ${timeline}`;
  return outcome.leader === null
    ? outcome.message
    : `${outcome.leader} is primary${where}. ${outcome.message}`;
}
