import { Fault, toFault } from "../../values/fault.ts";
import { askNodes, nodeNamed } from "../ask-nodes.ts";
import type { CommandContext } from "../context.ts";
import { checkNode, nagiosCodes, nagiosLines, worstLevel } from "../node-check.ts";

interface CheckOptions {
  readonly only?: readonly string[];
  readonly lagWarning: number;
  readonly lagCritical: number;
}

/** `pgherd node check`: whatever happens is told in Nagios' form, with Nagios' exit codes. */
export async function check(
  context: CommandContext,
  options: CheckOptions,
  names: readonly string[],
): Promise<number> {
  try {
    return await checkOne(context, options, names[0]);
  } catch (thrown) {
    const report = toFault(thrown).report();
    const text = [report.message, report.detail].filter((part) => part !== null).join(": ");
    const line = `PGHERD UNKNOWN - ${text.replaceAll("|", "/").replaceAll("\n", "; ")}`;
    context.result(report, [line]);
    return nagiosCodes.UNKNOWN;
  }
}

async function checkOne(
  context: CommandContext,
  options: CheckOptions,
  name: string | undefined,
): Promise<number> {
  const status = await (await context.reader()).status();
  const node = nodeNamed(status, name ?? (await ownName(context)));
  const { answers, silent } = await askNodes(context, [node], (agent) => agent.node());
  const results = checkNode(
    {
      status,
      node,
      picture: answers.get(node.name) ?? null,
      silence: silent.get(node.name) ?? null,
      lagWarningBytes: options.lagWarning,
      lagCriticalBytes: options.lagCritical,
    },
    options.only ?? [],
  );
  const level = worstLevel(results);
  context.result({ node: node.name, level, checks: results }, nagiosLines(node.name, results));
  return nagiosCodes[level];
}

/** The node of this host: the one whose file was given, else the one whose API was. */
async function ownName(context: CommandContext): Promise<string> {
  const { urls } = await context.location();
  const [only] = urls;
  if (urls.length !== 1 || only === undefined)
    throw new Fault("USAGE", "No node is named", {
      hint: "Name one, or give the --config or --api of one.",
    });
  const picture = await (await context.agentAt(only, "read")).node();
  return picture.record.name;
}
