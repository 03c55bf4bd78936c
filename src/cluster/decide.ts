import type { Decision, Rule } from "./action.ts";
import { bootstrapRules } from "./rules-bootstrap.ts";
import { electionRules } from "./rules-election.ts";
import { followerRules } from "./rules-follower.ts";
import { grayRules, stallRules } from "./rules-gray.ts";
import { guardRule } from "./rules-guard.ts";
import { leaderRules } from "./rules-leader.ts";
import { pausedRules } from "./rules-paused.ts";
import { recoveryRules } from "./rules-recovery.ts";
import { safetyRules } from "./rules-safety.ts";
import type { View } from "./view.ts";

const lastRow: Rule = {
  id: "Z-99",
  summary: "otherwise wait",
  answer: () => ({ action: { kind: "wait" }, why: "no rule applies" }),
};

const normal = [
  ...grayRules,
  ...bootstrapRules,
  ...recoveryRules,
  ...leaderRules,
  ...followerRules,
  ...electionRules,
];

/** The tables in the order they are asked, by mode. The first row that answers decides; the last answers everything. */
export const ruleTables = {
  normal: [...stallRules, ...safetyRules, guardRule(normal), ...normal, lastRow],
  paused: [...safetyRules, guardRule(pausedRules), ...pausedRules, lastRow],
} as const satisfies Record<string, readonly Rule[]>;

/** What to do now. Pure and total: the same view always yields the same decision, and there is always one. */
export function decide(view: View): Decision {
  const rules: readonly Rule[] =
    view.policy.paused && view.cluster?.initialization.value.kind === "initialized"
      ? ruleTables.paused
      : ruleTables.normal;
  for (const rule of rules) {
    const verdict = rule.answer(view);
    if (verdict !== null)
      return { ...verdict, facts: verdict.facts ?? {}, rule: rule.id, summary: rule.summary };
  }
  return {
    action: { kind: "wait" },
    why: "no rule applies",
    facts: {},
    rule: lastRow.id,
    summary: lastRow.summary,
  };
}
