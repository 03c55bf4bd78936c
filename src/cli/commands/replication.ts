import { askNodes, noteSilent } from "../ask-nodes.ts";
import type { CommandContext } from "../context.ts";
import { matrixLines } from "../render/matrix.ts";
import { replicationLines, replicationOf } from "../render/replication.ts";

/** `pgherd replication` */
export async function replication(context: CommandContext): Promise<undefined> {
  const client = await context.reader();
  const { nodes } = await client.status();
  const { answers, silent } = await askNodes(context, nodes, (agent) => agent.node());
  noteSilent(context, silent);
  const pictures = nodes.flatMap((node) => answers.get(node.name) ?? []);
  for (const picture of pictures) {
    if (picture.sql === null)
      context.note([`? ${picture.record.name}: ${picture.problem ?? "PostgreSQL does not answer"}`]);
  }
  const lines = replicationOf(pictures);
  context.result(lines, replicationLines(lines, context.look()));
  return undefined;
}

/** `pgherd cluster matrix` */
export async function matrix(context: CommandContext): Promise<undefined> {
  const client = await context.reader();
  const status = await client.status();
  const nodes = status.nodes.map((node) => node.name);
  const { answers, silent } = await askNodes(context, status.nodes, (agent) => agent.reachability());
  const reach = [...answers.values()].flat();
  const document = {
    nodes,
    reach,
    silent: [...silent].map(([node, reason]) => ({ node, reason })),
  };
  context.result(document, matrixLines({ nodes, reach, silent }, context.look()));
  return undefined;
}
