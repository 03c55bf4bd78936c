import type { ClusterEvent, DecisionRecord } from "../../cluster/decision.ts";
import type { HistoryLine } from "../../api/wire.ts";
import { partLines } from "./error.ts";
import type { Look } from "./look.ts";
import { dateTimeText, epochMs, momentText, spanText } from "./quantity.ts";
import { tableLines } from "./table.ts";
import { padTo, printable, wrapTo } from "./width.ts";

type FactValue = string | number | boolean | null;

/** The timelines that ended, the newest last. Pure. */
export function historyLines(history: readonly HistoryLine[], look: Look): string[] {
  if (history.length === 0) return ["The cluster is on its first timeline: nothing was promoted yet."];
  return tableLines(
    [
      { title: "timeline", align: "right" },
      { title: "ended at", align: "right" },
      { title: "next", align: "right" },
      { title: "new leader" },
      { title: "token", align: "right" },
      { title: "when" },
      { title: "reason" },
    ],
    history.map((entry) => ({
      mark: " ",
      cells: [
        String(entry.timeline),
        entry.fork_lsn,
        String(entry.new_timeline),
        entry.new_leader,
        String(entry.token),
        dateTimeText(entry.at, look.zone),
        entry.reason,
      ],
    })),
    look,
  );
}

/** Events, one a line, the newest last; failures are marked. Pure. */
export function eventLines(events: readonly ClusterEvent[], look: Look): string[] {
  if (events.length === 0) return ["No events are recorded yet."];
  const times = events.map((event) => momentText(event.at, look.nowMs, look.zone));
  const timeWidth = Math.max(...times.map((time) => time.length));
  const nodeWidth = Math.max(...events.map((event) => event.node.length));
  const nameWidth = Math.max(...events.map((event) => event.event.length));
  return events.flatMap((event, index) => {
    const mark = event.success ? " " : look.paint("bad", "!");
    const head = `${padTo(times[index] ?? "", timeWidth)}  ${padTo(event.node, nodeWidth)}  ${padTo(event.event, nameWidth)}  `;
    const room = Math.max(24, look.width - 2 - head.length);
    return wrapTo(printable(event.message), room).map((line, position) =>
      position === 0 ? `${mark} ${head}${line}` : `  ${" ".repeat(head.length)}${line}`,
    );
  });
}

/** One decision: what was done, by which rule, from which facts, and how it ended. Pure. */
export function decisionLines(decision: DecisionRecord, look: Look): string[] {
  const when = momentText(decision.at, look.nowMs, look.zone);
  const lines = [look.paint("bold", printable(`${when}  ${decision.node}: ${actionText(decision.action)}`))];
  lines.push(...partLines("rule", `${decision.rule} ${decision.summary}`, look));
  lines.push(...partLines("why", decision.why, look));
  const facts = Object.entries(decision.facts).map(([label, value]) => `${label} ${factText(value)}`);
  if (facts.length > 0) lines.push(...partLines("facts", facts.join(" · "), look));
  // To wait, or to call for a person, is no work that ends.
  if (decision.outcome !== null || !["wait", "alarm"].includes(decision.action))
    lines.push(...partLines("result", outcomeText(decision), look));
  return lines;
}

/** `start_standby` as `start standby`. */
function actionText(action: string): string {
  return action.replaceAll(/[_-]/g, " ");
}

function factText(value: FactValue): string {
  if (value === null) return "unknown";
  if (typeof value === "boolean") return value ? "yes" : "no";
  return String(value);
}

function outcomeText(decision: DecisionRecord): string {
  const { outcome } = decision;
  if (outcome === null) return "not ended yet";
  const message = outcome.message === null ? "" : `: ${outcome.message}`;
  return outcome.ok
    ? `done in ${spanText(outcome.ms)}${message}`
    : `failed after ${spanText(outcome.ms)}${message}`;
}

/** Records of several nodes as one list by time, without doubles, at most the `limit` newest; newest last. */
export function mergeByTime<T extends { readonly at: string; readonly node: string }>(
  lists: readonly (readonly T[])[],
  limit: number,
): T[] {
  const seen = new Set<string>();
  const merged: T[] = [];
  for (const item of lists.flat()) {
    const key = JSON.stringify(item);
    if (!seen.has(key)) merged.push(item);
    seen.add(key);
  }
  merged.sort((a, b) => (epochMs(a.at) ?? 0) - (epochMs(b.at) ?? 0) || (a.node < b.node ? -1 : 1));
  return limit === 0 ? [] : merged.slice(-limit);
}
