import { askNodes } from "../ask-nodes.ts";
import type { ApiClient } from "../../api/client.ts";
import type { NodeConfig } from "../../config/node-config.ts";
import type { ClusterStatus } from "../../cluster/status.ts";
import { toFault } from "../../values/fault.ts";
import type { CommandContext } from "../context.ts";
import { clockOffsetMs } from "../doctor/clock-offset.ts";
import { closedOf } from "../doctor/listeners.ts";
import { clusterFindings, type ClusterFacts } from "../doctor/cluster-findings.ts";
import { dcsFindings } from "../doctor/dcs-findings.ts";
import { failure, findingLines, ok, type Finding } from "../doctor/finding.ts";
import { hostFindings, nodeFindings } from "../doctor/host-findings.ts";
import { exitCodes } from "../exit-code.ts";
import type { ClusterLocation } from "../find-cluster.ts";
import { readNodeAccess } from "../node-access.ts";

/** `pgherd doctor`: whatever is wrong is a finding; only a wrong call is an error. */
export async function doctor(context: CommandContext): Promise<number> {
  const findings = [...nodeFindings(process.versions.node)];
  const location = await locate(context, findings);
  if (location !== null) {
    const status = await readStatus(context, findings);
    findings.push(...(await nodeFileFindings(context, location, status)));
    if (status !== null) findings.push(...clusterFindings(await gather(context, location, status)));
  }
  context.result(findings, findingLines(findings, context.look()));
  return findings.some((finding) => finding.level === "failure") ? exitCodes.failed : exitCodes.done;
}

/** A node file with mistakes is a finding; a call that names no cluster is wrong. */
async function locate(context: CommandContext, findings: Finding[]): Promise<ClusterLocation | null> {
  try {
    return await context.location();
  } catch (thrown) {
    const fault = toFault(thrown);
    if (fault.code === "USAGE") throw thrown;
    findings.push(
      failure("node file", [fault.message, fault.detail].filter(Boolean).join(": "), fault.hint ?? ""),
    );
    return null;
  }
}

async function readStatus(context: CommandContext, findings: Finding[]): Promise<ClusterStatus | null> {
  try {
    return await (await context.reader()).status();
  } catch (thrown) {
    const { message, detail, hint } = toFault(thrown);
    findings.push(failure("agents", [message, detail].filter(Boolean).join(": "), hint ?? ""));
    return null;
  }
}

/** One store is looked at once, however many node files name it. */
async function nodeFileFindings(
  context: CommandContext,
  location: ClusterLocation,
  status: ClusterStatus | null,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  let first: NodeConfig | null = null;
  for (const file of location.nodeFiles) {
    try {
      const { config } = await readNodeAccess(file, context.io.env);
      first ??= config;
      findings.push(ok("node file", `${file} is valid`));
      const runs =
        status?.nodes.some((node) => node.name === config.node && node.state !== "unknown") === true;
      findings.push(...(await hostFindings(config, context.io, runs)));
    } catch (thrown) {
      const { message, detail, hint } = toFault(thrown);
      findings.push(failure("node file", [message, detail].filter(Boolean).join(": "), hint ?? ""));
    }
  }
  return first === null ? findings : [...findings, ...(await dcsFindings(first, context.io))];
}

async function gather(
  context: CommandContext,
  location: ClusterLocation,
  status: ClusterStatus,
): Promise<ClusterFacts> {
  const [pictures, reaches, offsets, closedListeners] = await Promise.all([
    askNodes(context, status.nodes, (agent) => agent.node()),
    askNodes(context, status.nodes, (agent) => agent.reachability()),
    Promise.all(
      status.nodes.map(
        async (node) => [node.name, await clockOffsetMs(node.api_url, location.caFile, context.io)] as const,
      ),
    ),
    closedOf(status.routers, context.io.timers),
  ]);
  const settings = await (await context.reader()).settings();
  return {
    status,
    pictures: pictures.answers,
    silent: pictures.silent,
    reach: [...reaches.answers.values()].flat(),
    clockOffsets: new Map(offsets),
    closedListeners,
    settings: settings.effective,
    writes: await tryWrite(context, location),
  };
}

/** A change that changes nothing, as a dry run: it needs what every change needs. */
async function tryWrite(context: CommandContext, location: ClusterLocation): Promise<ClusterFacts["writes"]> {
  try {
    if ((await location.token()) === null) return null;
    const client: ApiClient = await context.writer();
    await client.patchSettings({}, { dryRun: true, version: null });
    return { accepted: true, problem: "" };
  } catch (thrown) {
    return { accepted: false, problem: toFault(thrown).message };
  }
}
