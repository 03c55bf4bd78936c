import type { ClusterStatus, NodeStatus } from "../cluster/status.ts";
import { Fault, toFault } from "../values/fault.ts";
import type { ApiClient } from "../api/client.ts";
import type { CommandContext } from "./context.ts";
import { nearestWord } from "../config/nearest.ts";

/** What several agents said, and why others said nothing. */
export interface Answers<T> {
  readonly answers: ReadonlyMap<string, T>;
  readonly silent: ReadonlyMap<string, string>;
}

/** Asks each of these nodes' agents at the same time; one that does not answer does not spoil the rest. */
export async function askNodes<T>(
  context: CommandContext,
  nodes: readonly NodeStatus[],
  question: (client: ApiClient) => Promise<T>,
): Promise<Answers<T>> {
  const answers = new Map<string, T>();
  const silent = new Map<string, string>();
  await Promise.all(
    nodes.map(async (node) => {
      try {
        answers.set(node.name, await question(await context.agentAt(node.api_url, "read")));
      } catch (thrown) {
        const fault = toFault(thrown);
        silent.set(node.name, fault.detail ?? fault.message);
      }
    }),
  );
  return { answers, silent };
}

/** Notes on stderr which nodes are missing from an answer. */
export function noteSilent(context: CommandContext, silent: ReadonlyMap<string, string>): void {
  context.note([...silent].sort().map(([name, reason]) => `? ${name} could not be asked: ${reason}`));
}

/** The node of this name. @throws Fault NODE_UNKNOWN with the nearest name */
export function nodeNamed(status: ClusterStatus, name: string): NodeStatus {
  const node = status.nodes.find((candidate) => candidate.name === name);
  if (node !== undefined) return node;
  const names = status.nodes.map((candidate) => candidate.name);
  const near = nearestWord(name, names);
  throw new Fault("NODE_UNKNOWN", `${status.cluster} has no node ${name}`, {
    detail: names.length === 0 ? "No node has registered yet." : `Its nodes are ${names.join(", ")}.`,
    hint: near === undefined ? "See pgherd status." : `Did you mean ${near}?`,
  });
}
