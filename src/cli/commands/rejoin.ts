import { Fault } from "../../values/fault.ts";
import { nodeNamed } from "../ask-nodes.ts";
import { declined, type ChangeFlags, type CommandContext } from "../context.ts";
import { change, CommandFailure } from "../failure.ts";
import { rejoinPlan, rejoinSteps } from "../rejoin-plan.ts";
import { stepLines } from "../render/move.ts";
import { endProgress, waitUntilStreaming } from "../wait-for-node.ts";

interface RejoinOptions extends ChangeFlags {
  readonly timeout: number;
}

/**
 * `pgherd node rejoin`: an agent brings its node back by itself; this says how, asks the agent to look again now (a
 * reload wakes its loop), and waits until the node streams.
 */
export async function rejoin(
  context: CommandContext,
  options: RejoinOptions,
  names: readonly string[],
): Promise<number | undefined> {
  const reader = await context.reader();
  const [status, history] = [await reader.status(), await reader.history()];
  const node = nodeNamed(status, names[0] ?? "");
  const plan = rejoinPlan(node, status, history);
  const steps = rejoinSteps(plan, node.name, status.leader);
  if (plan.how === "leads")
    throw new Fault("REINIT_OF_LEADER", `${node.name} is the leader and has nothing to rejoin`, {
      hint: "Move the primary first: pgherd switchover",
    });
  const document = { node: node.name, how: plan.how, why: plan.why, steps };
  if (plan.how === "streams") {
    context.result({ ...document, done: true }, [plan.why]);
    return undefined;
  }
  // Asked before anything else, so that a dry run finds an agent that does not answer too.
  const agent = await context.agentAt(node.api_url, "write");
  await agent.node();
  if (options.dryRun === true) {
    context.result({ dry_run: true, ...document }, [
      plan.why,
      ...stepLines(steps, context.look()),
      "Nothing was changed.",
    ]);
    return undefined;
  }
  context.note([plan.why]);
  const answer = await declined(context, `Bring ${node.name} back?`, options);
  if (answer !== null) return answer;
  if (status.paused)
    throw new Fault("CLUSTER_PAUSED", `${status.cluster} is paused: no node is brought back`, {
      hint: "Let pgherd act again: pgherd resume",
    });
  await change(() => agent.reload(), "see pgherd status");
  const end = await waitUntilStreaming(context, node.name, { timeoutMs: options.timeout, begun: () => true });
  endProgress(context);
  if (end.kind === "streams") {
    context.result({ ...document, done: true }, [
      `${node.name} streams from ${end.node.upstream ?? "its upstream"}.`,
    ]);
    return undefined;
  }
  const fault =
    end.kind === "failed"
      ? end.fault
      : new Fault("TIMEOUT", `${node.name} does not stream yet`, { detail: end.last });
  throw new CommandFailure(
    new Fault(fault.code, fault.message, {
      ...(fault.detail === null ? {} : { detail: fault.detail }),
      hint: `See pgherd events --node ${node.name}; to copy it anew: pgherd node clone ${node.name}`,
    }),
    { kind: "partly", state: `The agent of ${node.name} goes on trying.` },
  );
}
