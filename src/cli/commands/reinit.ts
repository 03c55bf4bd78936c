import type { NodeStatus } from "../../cluster/status.ts";
import { Fault } from "../../values/fault.ts";
import { nodeNamed } from "../ask-nodes.ts";
import { declined, type ChangeFlags, type CommandContext } from "../context.ts";
import { change, CommandFailure } from "../failure.ts";
import { endProgress, waitUntilStreaming } from "../wait-for-node.ts";

interface CopyOptions extends ChangeFlags {
  readonly fromLeader?: boolean;
  readonly wait: boolean;
  readonly timeout: number;
}

/** `pgherd reinit` */
export async function reinit(
  context: CommandContext,
  options: CopyOptions,
  names: readonly string[],
): Promise<number | undefined> {
  const status = await (await context.reader()).status();
  const node = nodeNamed(status, names[0] ?? "");
  return copy(context, node, options, `Copy ${node.name} anew? What it has now is put aside.`);
}

/** `pgherd node clone`: the same copy, for a node that has nothing worth keeping; a node that streams needs none. */
export async function clone(
  context: CommandContext,
  options: CopyOptions,
  names: readonly string[],
): Promise<number | undefined> {
  const status = await (await context.reader()).status();
  const node = nodeNamed(status, names[0] ?? "");
  if (node.role === "standby" && node.state === "streaming")
    throw new Fault(
      "OPERATION_RUNNING",
      `${node.name} streams from ${node.upstream ?? "its upstream"} already`,
      {
        hint: `To copy it anew all the same: pgherd reinit ${node.name}`,
      },
    );
  return copy(context, node, options, `Copy the cluster to ${node.name}?`);
}

async function copy(
  context: CommandContext,
  node: NodeStatus,
  options: CopyOptions,
  question: string,
): Promise<number | undefined> {
  const client = await context.agentAt(node.api_url, "write");
  const fromLeader = options.fromLeader === true;
  const plan = await client.reinit({ fromLeader, dryRun: true });
  if (options.dryRun === true) {
    const steps = [
      `stop PostgreSQL on ${node.name}`,
      `copy from ${plan.source} beside the data directory (pg_basebackup)`,
      "put the old data directory aside",
      `stream from ${plan.source}`,
      "delete what was put aside once it streams",
    ];
    context.result({ dry_run: true, node: node.name, source: plan.source, steps }, [
      ...steps.map((step) => `Would ${step}.`),
      "Nothing was changed.",
    ]);
    return undefined;
  }
  const answer = await declined(context, question, options);
  if (answer !== null) return answer;
  const { source } = await change(
    () => client.reinit({ fromLeader, dryRun: false }),
    `see pgherd events --node ${node.name}`,
  );
  if (!options.wait) {
    context.result({ node: node.name, source, done: false }, [
      `${node.name} is being copied from ${source}. See pgherd status.`,
    ]);
    return undefined;
  }
  const began = node.since;
  const end = await waitUntilStreaming(context, node.name, {
    timeoutMs: options.timeout,
    begun: (seen) => seen.since !== began,
  });
  endProgress(context);
  switch (end.kind) {
    case "streams":
      context.result({ node: node.name, source, done: true }, [
        `${node.name} streams from ${end.node.upstream ?? source}.`,
      ]);
      return undefined;
    case "failed":
      throw new CommandFailure(end.fault, {
        kind: "partly",
        state: `The copy of ${node.name} is not finished.`,
      });
    case "timeout":
      throw new CommandFailure(
        new Fault("TIMEOUT", `${node.name} does not stream yet`, {
          detail: end.last,
          hint: "Wait longer with --timeout, or look with pgherd status.",
        }),
        { kind: "partly", state: `The copy of ${node.name} goes on.` },
      );
  }
}
