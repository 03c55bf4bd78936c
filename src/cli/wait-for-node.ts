import { problemLine, type ClusterStatus, type NodeStatus } from "../cluster/status.ts";
import { elapsedMs } from "../values/time.ts";
import { Fault, toFault } from "../values/fault.ts";
import { nodeNamed } from "./ask-nodes.ts";
import type { CommandContext } from "./context.ts";
import { stateText } from "./render/status.ts";

/** How a wait for a node ended. */
export type NodeWait =
  | { readonly kind: "streams"; readonly node: NodeStatus }
  | { readonly kind: "failed"; readonly fault: Fault }
  | { readonly kind: "timeout"; readonly last: string };

export interface WaitOptions {
  readonly timeoutMs: number;
  /** Whether the node has begun what is waited for: until then a node that still streams does not count. */
  readonly begun: (node: NodeStatus) => boolean;
}

const lookEveryMs = 500;
/** A node may look as before for so long after the request until its next record is seen. */
const settleMs = 5000;

/** Looks at the node until it streams, showing on stderr what it is doing. Bounded by the timeout. */
export async function waitUntilStreaming(
  context: CommandContext,
  name: string,
  options: WaitOptions,
): Promise<NodeWait> {
  const { clock, timers, interrupted } = context.io;
  const client = await context.reader();
  const start = clock.now();
  let begun = false;
  let last = "";
  for (;;) {
    const waited = elapsedMs(start, clock.now());
    const seen = await look(client.status(), name);
    if (typeof seen === "string") last = show(context, name, seen, last);
    else {
      begun ||= options.begun(seen) || waited > settleMs;
      last = show(context, name, stateText(seen, context.look().nowMs), last);
      if (begun && seen.role === "standby" && seen.state === "streaming")
        return { kind: "streams", node: seen };
      if (begun && seen.state === "failed") return { kind: "failed", fault: problemOf(seen) };
    }
    if (waited >= options.timeoutMs || interrupted.aborted) return { kind: "timeout", last };
    await timers.sleep(Math.min(lookEveryMs, options.timeoutMs), interrupted);
  }
}

/** The node, or why it could not be looked at: one failed look does not end a wait. */
async function look(status: Promise<ClusterStatus>, name: string): Promise<NodeStatus | string> {
  try {
    return nodeNamed(await status, name);
  } catch (thrown) {
    return toFault(thrown).message;
  }
}

/** On a terminal the line is redrawn, elsewhere only a new step is a new line. */
function show(context: CommandContext, name: string, text: string, last: string): string {
  const { stderr } = context.io;
  if (text === last) return last;
  if (stderr.terminal) stderr.write(`\r\u001b[K  ${name}: ${text}`);
  else if (step(text) !== step(last)) stderr.write(`  ${name}: ${text}\n`);
  return text;
}

/** The text without its numbers. */
function step(text: string): string {
  return text.replaceAll(/[0-9.]+/g, "");
}

function problemOf(node: NodeStatus): Fault {
  return new Fault("CLONE_FAILED", `${node.name} needs a person`, {
    detail:
      node.problem === null
        ? `It is ${node.state}.`
        : `${problemLine(node.name, node.problem)} [${node.problem.code}]`,
    hint: node.problem?.hint ?? `See pgherd events --node ${node.name}.`,
  });
}

/** Ends the redrawn line. */
export function endProgress(context: CommandContext): void {
  if (context.io.stderr.terminal) context.io.stderr.write("\n");
}
