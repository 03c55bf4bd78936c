import { Fault, toFault } from "../../values/fault.ts";
import { completionScript, type Shell } from "../completion.ts";
import type { CommandContext } from "../context.ts";
import { ownVersion } from "../own-version.ts";

/** `pgherd completion` */
export function completion(
  context: CommandContext,
  _options: object,
  operands: readonly string[],
): Promise<undefined> {
  const shell = (operands[0] ?? "bash") as Shell;
  const script = completionScript(shell, context.program);
  context.result({ shell, script }, [script.trimEnd()]);
  return Promise.resolve(undefined);
}

/** `pgherd version`: the agents' versions too when a cluster is named. */
export async function version(context: CommandContext): Promise<undefined> {
  const own = { pgherd: ownVersion(), node: process.versions.node };
  const { config, api, dir } = context.globals;
  const named = config !== undefined || api !== undefined || dir !== undefined;
  const agents = named ? await agentVersions(context) : [];
  context.result({ ...own, agents }, [
    `pgherd ${own.pgherd} (Node ${own.node})`,
    ...agents.map((agent) => `  ${agent.node}: agent ${agent.version}, PostgreSQL ${agent.postgres ?? "?"}`),
  ]);
  return undefined;
}

interface AgentVersion {
  readonly node: string;
  readonly version: string;
  readonly postgres: string | null;
}

async function agentVersions(context: CommandContext): Promise<AgentVersion[]> {
  try {
    const { nodes } = await (await context.reader()).status();
    return nodes.map((node) => ({
      node: node.name,
      version: node.agent_version,
      postgres: node.server_version === null ? null : serverVersionText(node.server_version),
    }));
  } catch (thrown) {
    context.note([`? the agents could not be asked: ${toFault(thrown).message}`]);
    return [];
  }
}

/** 150018 as `15.18`. */
export function serverVersionText(version: number): string {
  return `${Math.floor(version / 10_000)}.${version % 10_000}`;
}

/** `agent` begins a daemon only as the first word: the entry must see it before this tree is loaded. */
export function misplacedDaemon(): Promise<undefined> {
  throw new Fault("USAGE", "`agent` must be the first word", {
    hint: "For example: pgherd agent --config /etc/pgherd/node.yml",
  });
}
