import { eventNames } from "../../cluster/decision.ts";
import { Fault } from "../../values/fault.ts";
import { askNodes, nodeNamed, noteSilent } from "../ask-nodes.ts";
import type { ApiClient } from "../../api/client.ts";
import type { CommandContext } from "../context.ts";
import { nearestWord } from "../../config/nearest.ts";
import { decisionLines, eventLines, historyLines, mergeByTime } from "../render/records.ts";

interface EventOptions {
  readonly last: number;
  readonly node?: string;
  readonly event?: readonly string[];
}

interface ExplainOptions {
  readonly last: number;
  readonly node?: string;
}

/** The API's bound for one answer. */
const mostAtOnce = 1000;

/** `pgherd history` */
export async function history(context: CommandContext): Promise<undefined> {
  const client = await context.reader();
  const entries = await client.history();
  context.result(entries, historyLines(entries, context.look()));
  return undefined;
}

/** `pgherd events` */
export async function events(context: CommandContext, options: EventOptions): Promise<undefined> {
  const wanted = options.event ?? [];
  for (const name of wanted) checkEventName(name);
  // All an agent answers with at once, so that a filter still finds as many as were wanted.
  const perNode = wanted.length === 0 ? options.last : mostAtOnce;
  const lists = await fromNodes(context, options.node, (client) => client.events(perNode));
  const matching = lists.map((list) =>
    list.filter((item) => wanted.length === 0 || wanted.includes(item.event)),
  );
  const merged = mergeByTime(matching, options.last);
  context.result(merged, eventLines(merged, context.look()));
  return undefined;
}

function checkEventName(name: string): void {
  if (eventNames.some((known) => known === name)) return;
  const near = nearestWord(name, eventNames);
  throw new Fault("USAGE", `There is no event ${name}`, {
    hint: near === undefined ? `Events are ${eventNames.join(", ")}.` : `Did you mean ${near}?`,
  });
}

/** `pgherd explain` */
export async function explain(context: CommandContext, options: ExplainOptions): Promise<undefined> {
  const lists = await fromNodes(context, options.node, (client) => client.decisions(options.last));
  const merged = mergeByTime(lists, options.last);
  const look = context.look();
  const lines =
    merged.length === 0
      ? ["No decision is recorded yet."]
      : merged.flatMap((decision, index) => [...(index === 0 ? [] : [""]), ...decisionLines(decision, look)]);
  context.result(merged, lines);
  return undefined;
}

/** Every agent records what it did itself, so that each of them is asked. */
async function fromNodes<T>(
  context: CommandContext,
  only: string | undefined,
  question: (client: ApiClient) => Promise<readonly T[]>,
): Promise<(readonly T[])[]> {
  const client = await context.reader();
  const status = await client.status();
  const nodes = only === undefined ? status.nodes : [nodeNamed(status, only)];
  // Before the first registration only the agent that answered is known.
  if (nodes.length === 0) return [await question(client)];
  const { answers, silent } = await askNodes(context, nodes, question);
  noteSilent(context, silent);
  if (answers.size === 0)
    throw new Fault("API_UNREACHABLE", "None of these nodes' agents answers", {
      detail: [...silent].map(([name, reason]) => `${name}: ${reason}`).join("\n"),
      hint: "See pgherd status, and the agents' own logs.",
    });
  return [...answers.values()];
}
