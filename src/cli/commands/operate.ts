import type { ClusterStatus, NodeStatus } from "../../cluster/status.ts";
import { Fault, toFault } from "../../values/fault.ts";
import { nodeNamed } from "../ask-nodes.ts";
import type { ApiClient } from "../../api/client.ts";
import { declined, type ChangeFlags, type CommandContext } from "../context.ts";
import { change, CommandFailure, leftByChange } from "../failure.ts";

interface NodesOptions extends ChangeFlags {
  readonly all?: boolean;
}

interface RestartOptions extends NodesOptions {
  readonly ifPending?: boolean;
  readonly role?: "primary" | "standby";
  readonly timeout: number;
}

/** What was done to one node. */
interface NodeResult {
  readonly node: string;
  readonly done: boolean;
  readonly message: string;
}

/** `pgherd restart` */
export async function restart(
  context: CommandContext,
  options: RestartOptions,
  names: readonly string[],
): Promise<number | undefined> {
  const status = await (await context.reader()).status();
  const nodes = chosen(status, names, options.all === true || options.role !== undefined).filter(
    (node) =>
      (options.role === undefined || node.role === options.role) &&
      (options.ifPending !== true || node.pending_restart),
  );
  if (nodes.length === 0) {
    context.result([], ["No node needs it: nothing was restarted."]);
    return undefined;
  }
  const ordered = leaderLast(nodes, status.leader);
  const steps = ordered.map(
    (node) =>
      `restart PostgreSQL on ${node.name}${node.name === status.leader ? " (leader: sessions end, writes wait)" : ""}`,
  );
  return eachNode(context, ordered, options, {
    steps,
    question: `Restart PostgreSQL on ${nameList(ordered)}?`,
    run: async (client) => {
      const restarted = await client.restart({
        ifPending: options.ifPending === true,
        role: options.role ?? null,
        timeoutMs: options.timeout,
      });
      return restarted ? "restarted" : "not needed any more";
    },
  });
}

/** `pgherd reload` */
export async function reload(
  context: CommandContext,
  options: NodesOptions,
  names: readonly string[],
): Promise<number | undefined> {
  const status = await (await context.reader()).status();
  const nodes = chosen(status, names, options.all === true);
  return eachNode(context, nodes, options, {
    steps: nodes.map((node) => `reload ${node.name}`),
    question: `Reload ${nameList(nodes)}?`,
    run: async (client) => {
      const { changed, pendingRestart } = await client.reload();
      const what = changed.length === 0 ? "nothing changed" : `changed: ${changed.join(", ")}`;
      return pendingRestart ? `${what}; a restart is pending` : what;
    },
  });
}

function chosen(status: ClusterStatus, names: readonly string[], all: boolean): NodeStatus[] {
  if (names.length > 0 && all)
    throw new Fault("USAGE", "Nodes are named, and all are asked for", {
      hint: "Name nodes, or give --all.",
    });
  if (names.length > 0) return [...new Set(names)].map((name) => nodeNamed(status, name));
  if (all) return [...status.nodes];
  throw new Fault("USAGE", "No node is named", { hint: "Name nodes, or give --all." });
}

function leaderLast(nodes: readonly NodeStatus[], leader: string | null): NodeStatus[] {
  return [...nodes].sort((a, b) => Number(a.name === leader) - Number(b.name === leader));
}

function nameList(nodes: readonly NodeStatus[]): string {
  return nodes.map((node) => node.name).join(", ");
}

interface NodeWork {
  readonly steps: readonly string[];
  readonly question: string;
  readonly run: (client: ApiClient) => Promise<string>;
}

/** One node after the other; the first failure ends it, and says which nodes are done. */
async function eachNode(
  context: CommandContext,
  nodes: readonly NodeStatus[],
  options: ChangeFlags,
  work: NodeWork,
): Promise<number | undefined> {
  if (options.dryRun === true) {
    context.result({ dry_run: true, steps: work.steps }, [
      ...work.steps.map((step) => `Would ${step}.`),
      "Nothing was changed.",
    ]);
    return undefined;
  }
  const answer = await declined(context, work.question, options);
  if (answer !== null) return answer;
  const results: NodeResult[] = [];
  for (const node of nodes) {
    try {
      const client = await context.agentAt(node.api_url, "write");
      const message = await work.run(client);
      results.push({ node: node.name, done: true, message });
      if (!context.json) context.note([`  ${node.name}: ${message}`]);
    } catch (thrown) {
      throw brokenOff(thrown, node, nodes, results);
    }
  }
  context.result(results, [`Done on ${nameList(nodes)}.`]);
  return undefined;
}

function brokenOff(
  thrown: unknown,
  failed: NodeStatus,
  nodes: readonly NodeStatus[],
  results: readonly NodeResult[],
): CommandFailure {
  const fault = toFault(thrown);
  const told = new Fault(fault.code, `${failed.name}: ${fault.message}`, {
    ...(fault.detail === null ? {} : { detail: fault.detail }),
    ...(fault.hint === null ? {} : { hint: fault.hint }),
    cause: thrown,
  });
  if (results.length === 0) return new CommandFailure(told, leftByChange(fault, "see pgherd status"));
  const done = results.map((result) => result.node);
  const open = nodes.map((node) => node.name).filter((name) => name !== failed.name && !done.includes(name));
  const rest = open.length === 0 ? "" : ` Not begun: ${open.join(", ")}.`;
  return new CommandFailure(told, {
    kind: "partly",
    state: `Done on ${done.join(", ")}. Failed on ${failed.name}.${rest}`,
  });
}

/** `pgherd pause` */
export function pause(context: CommandContext, options: ChangeFlags): Promise<number | undefined> {
  return setPaused(context, options, true);
}

/** `pgherd resume` */
export function resume(context: CommandContext, options: ChangeFlags): Promise<number | undefined> {
  return setPaused(context, options, false);
}

/** Pausing is a cluster setting like any other. */
async function setPaused(
  context: CommandContext,
  options: ChangeFlags,
  paused: boolean,
): Promise<number | undefined> {
  const status = await (await context.reader()).status();
  const words = paused
    ? {
        verb: "Pause",
        now: `${status.cluster} is paused: nothing is promoted, started or stopped by itself.`,
      }
    : { verb: "Resume", now: `${status.cluster} acts by itself again.` };
  if (status.paused === paused) {
    context.result({ paused, changed: false }, [`${words.now} It was so already.`]);
    return undefined;
  }
  const client = await context.writer();
  const patch = { pause: paused ? true : null };
  if (options.dryRun === true) {
    const { diff } = await client.patchSettings(patch, { dryRun: true, version: null });
    context.result({ dry_run: true, diff }, [...diff, "Nothing was changed."]);
    return undefined;
  }
  const answer = await declined(context, `${words.verb} ${status.cluster}?`, options);
  if (answer !== null) return answer;
  await change(() => (paused ? client.pause() : client.resume()), "see pgherd status");
  context.result({ paused, changed: true }, [words.now]);
  return undefined;
}

/** `pgherd remove` */
export async function remove(
  context: CommandContext,
  options: ChangeFlags,
  names: readonly string[],
): Promise<number | undefined> {
  const status = await (await context.reader()).status();
  const node = nodeNamed(status, names[0] ?? "");
  const client = await context.writer();
  await client.removeNode(node.name, { dryRun: true });
  if (options.dryRun === true) {
    context.result({ dry_run: true, would_remove: node.name }, [
      `Would forget ${node.name}, its slots and its records.`,
      "Nothing was changed.",
    ]);
    return undefined;
  }
  const answer = await declined(context, `Forget ${node.name}? Its data directory stays.`, options);
  if (answer !== null) return answer;
  await change(() => client.removeNode(node.name, { dryRun: false }), "see pgherd status");
  context.result({ removed: node.name }, [`${node.name} is removed. Its data directory was not touched.`]);
  return undefined;
}
