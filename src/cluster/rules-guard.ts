import type { Action, Rule, Verdict } from "./action.ts";
import { bestStreamingStandby } from "./candidates.ts";
import { fitsStop, heldForMs, renewalMs, stopBudgetMs } from "./policy.ts";
import type { View } from "./view.ts";

/** A guard that died is back within this time; sooner nobody is told. */
const comesBackMs = 1000;

/** A leader without a guard ends its PostgreSQL when this share of the ttl is left: no renewal moves the deadline meanwhile. */
const lastShare = 0.3;

/** What ends in a PostgreSQL that can write. */
const writing: ReadonlySet<Action["kind"]> = new Set([
  "take-lease",
  "claim-bootstrap",
  "adopt",
  "bootstrap",
  "start-primary",
  "promote",
  "declare-serving",
]);

function needsGuard(view: View, action: Action): boolean {
  return writing.has(action.kind) || (action.kind === "restart" && view.standing.kind === "mine");
}

/** Waits for the guard, and after a moment says that it is missing; null = it is there. */
export function withoutGuard(view: View): Verdict | null {
  const { alive, forMs } = view.guard;
  if (alive) return null;
  if (forMs < comesBackMs) return { action: { kind: "wait" }, why: "the guard is being started" };
  const message = "no guard answers that would end PostgreSQL at the deadline of the lease";
  const hint = "Read guard.log in the state directory; the agent goes on trying to start one.";
  return { action: { kind: "alarm", code: "GUARD_MISSING", message, hint }, why: message };
}

/** What stands in the way of leading although a guard lives; null = nothing. */
function obstacle(view: View): Verdict | null {
  const { stopMs, refusal } = view.guard;
  if (refusal !== null) return { action: { kind: "alarm", ...refusal }, why: refusal.message };
  const { ttlMs } = view.policy;
  if (fitsStop(ttlMs, stopMs)) return null;
  const message = `a ttl of ${ttlMs} ms is too short for this machine, where ending PostgreSQL takes ${Math.round(stopMs)} ms`;
  const detail = `Of it ${Math.round(stopBudgetMs(ttlMs, stopMs))} ms are kept for that, which leaves ${Math.round(heldForMs(ttlMs, stopMs))} ms; two renewals take ${2 * renewalMs(ttlMs)} ms.`;
  const hint = "Set a longer ttl: pgherd config set ttl=...";
  return { action: { kind: "alarm", code: "STOP_BUDGET_TOO_LARGE", message, detail, hint }, why: message };
}

/** What a leader lost that must be there while it leads; null = nothing. */
function lost(view: View): string | null {
  const { standing, guard, policy } = view;
  if (standing.kind !== "mine") return null;
  if (guard.refusal !== null) return guard.refusal.message;
  if (guard.alive || standing.remainingMs >= policy.ttlMs * lastShare) return null;
  return `no guard for ${Math.round(guard.forMs)} ms, and ${Math.round(standing.remainingMs)} ms are left`;
}

/** A leader without what would end its PostgreSQL. */
export const guardLossRule: Rule = {
  id: "S-08",
  summary:
    "a leader whose guard stays missing, or whose required watchdog is, ends PostgreSQL and hands over before its deadline (P4)",
  answer: (view) => {
    const { postgres, policy } = view;
    const why = lost(view);
    if (why === null || (postgres.kind !== "running" && postgres.kind !== "starting")) return null;
    if (postgres.role === "standby") return null;
    if (view.operation !== null || policy.paused) return { action: { kind: "fence" }, why };
    const candidate = bestStreamingStandby(view, policy.maxLagOnFailoverBytes);
    return { action: { kind: "handover", candidate }, why, facts: { candidate } };
  },
};

function firstAnswer(rules: readonly Rule[], view: View): Verdict | null {
  for (const rule of rules) {
    const verdict = rule.answer(view);
    if (verdict !== null) return verdict;
  }
  return null;
}

/** A row that stands before `rest` and asks it first what it would do. */
export function guardRule(rest: readonly Rule[]): Rule {
  return {
    id: "S-09",
    summary:
      "nothing is begun that could end in a write while no guard lives, or the ttl is too short to stop in (P3, P4)",
    answer: (view) => {
      const missing = withoutGuard(view);
      const refused = missing ?? obstacle(view);
      if (refused === null) return null;
      const verdict = firstAnswer(rest, view);
      if (verdict === null || !needsGuard(view, verdict.action)) return null;
      // Without a guard the lease is not renewed and runs out; otherwise nobody else could take it.
      return missing === null && view.standing.kind === "mine"
        ? { action: { kind: "handover", candidate: null }, why: refused.why }
        : refused;
    },
  };
}
