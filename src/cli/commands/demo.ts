import { resolve } from "node:path";
import {
  demoKill,
  demoKillRouter,
  demoStart,
  demoStartRouter,
  describeNow,
  type DemoPart,
} from "../../demo/control.ts";
import { findDemo, readDemo, type DemoFile } from "../../demo/demo-file.ts";
import { introduction, type DemoDescription } from "../../demo/description.ts";
import { demoDown } from "../../demo/down.ts";
import type { DemoHost } from "../../demo/host.ts";
import { defaultDemoDir, lastDemoDir } from "../../demo/pointer.ts";
import { demoUp } from "../../demo/up.ts";
import { createApiClient } from "../../api/client.ts";
import { systemRandom } from "../../system/random.ts";
import { Fault, toFault } from "../../values/fault.ts";
import { readTimeoutMs, type CommandContext } from "../context.ts";
import { countText } from "../render/quantity.ts";
import { statusLines } from "../render/status.ts";
import { tableLines } from "../render/table.ts";
import { wrapTo } from "../render/width.ts";

interface UpOptions {
  readonly nodes?: number;
  readonly dcsMembers?: number;
  readonly ttl?: number;
  readonly set?: readonly string[];
  readonly router: boolean;
  readonly withBackup?: boolean;
}

/** `pgherd demo up` */
export async function up(context: CommandContext, options: UpOptions): Promise<undefined> {
  // Only the demo at its usual place has the usual ports: others may run beside it.
  const ports = givenDir(context) === null ? ("usual" as const) : ("drawn" as const);
  const request = {
    dir: givenDir(context) ?? (await currentDemo(context)) ?? defaultDir(context),
    nodes: options.nodes ?? null,
    dcsMembers: options.dcsMembers ?? null,
    ttlMs: options.ttl ?? null,
    settings: options.set ?? [],
    router: options.router ? ports : ("none" as const),
    backup: options.withBackup === true,
  };
  const demo = await demoUp(request, hostOf(context));
  await show(context, demo);
  return undefined;
}

/** `pgherd demo status` */
export async function status(context: CommandContext): Promise<undefined> {
  const demo = await readDemo(await knownDir(context));
  await show(context, demo);
  return undefined;
}

/** The description for programs; for people the status, the processes, and how to go on. */
async function show(context: CommandContext, demo: DemoFile): Promise<void> {
  const description = await describeNow(demo);
  const cluster = await clusterLines(context, demo);
  context.result(description, [
    ...cluster.lines,
    "",
    ...processLines(context, description),
    "",
    ...introduction(demo, context.io.program, cluster.leader),
  ]);
}

interface ClusterLines {
  readonly lines: readonly string[];
  readonly leader: string | null;
}

/** The status of the cluster, or why there is none: that is no failure of a command that looks at processes. */
async function clusterLines(context: CommandContext, demo: DemoFile): Promise<ClusterLines> {
  if (context.json) return { lines: [], leader: null };
  const client = createApiClient({ urls: demo.nodes.map((node) => node.api), timeoutMs: readTimeoutMs });
  try {
    const seen = await client.status();
    return { lines: statusLines(seen, context.look()), leader: seen.leader };
  } catch (thrown) {
    return { lines: [`? ${demo.cluster}: ${toFault(thrown).message}`], leader: null };
  }
}

function processLines(context: CommandContext, description: DemoDescription): string[] {
  const pid = (value: number | null): string => (value === null ? "-" : String(value));
  const nodes = tableLines(
    [
      { title: "node" },
      { title: "agent", align: "right" },
      { title: "guard", align: "right" },
      { title: "postgres", align: "right" },
      { title: "API" },
      { title: "data directory" },
    ],
    description.nodes.map((node) => ({
      mark: node.agent_pid === null ? "!" : " ",
      cells: [
        node.name,
        pid(node.agent_pid),
        pid(node.guard_pid),
        pid(node.postmaster_pid),
        node.api,
        node.data_dir,
      ],
    })),
    context.look(),
  );
  const router =
    description.router === null
      ? []
      : [`  router: ${description.router.http} (${pid(description.router.pid)})`];
  const backup =
    description.backup === null
      ? []
      : [`  backup server: ${description.backup.api} (${pid(description.backup.pid)})`];
  const members = description.dcs.endpoints.map((endpoint, index) => {
    return `${endpoint} (${pid(description.dcs.pids[index] ?? null)})`;
  });
  // A member and its process stay together on a line.
  const store = `${description.dcs.kind}: ${members.map((member) => member.replace(" ", "\u00a0")).join(", ")}`;
  const lines = wrapTo(store, context.look().width - 4).map((line) => line.replaceAll("\u00a0", " "));
  return [
    ...nodes,
    ...router,
    ...backup,
    ...lines.map((line, index) => `${index === 0 ? "  " : "    "}${line}`),
  ];
}

/** `pgherd demo down` */
export async function down(
  context: CommandContext,
  options: { readonly keep?: boolean },
): Promise<undefined> {
  const dir = givenDir(context) ?? (await lastDemoDir(context.io.env));
  if (dir === null) {
    context.result({ dir: null, found: false, removed: false }, ["There is no demo."]);
    return undefined;
  }
  const ended = await demoDown(dir, options.keep === true, hostOf(context));
  const text = !ended.found
    ? `There is no demo in ${dir}.`
    : ended.removed
      ? `The demo is down, and ${dir} is removed.`
      : `The demo is down; ${dir} is kept. To start it again: ${context.io.program} demo up --dir ${dir}`;
  context.result({ dir, ...ended }, [text]);
  return undefined;
}

interface PartOptions {
  readonly what: DemoPart | "router";
}

/** The node a command is about; null = it is about the router. @throws Fault USAGE */
function nodeIn(options: PartOptions, names: readonly string[]): string | null {
  const [node] = names;
  if (options.what === "router" || node === "router") return null;
  if (node !== undefined) return node;
  throw new Fault("USAGE", "Which node?", { hint: "Name a node of the demo, or `router`." });
}

/** `pgherd demo kill` */
export async function kill(
  context: CommandContext,
  options: PartOptions,
  names: readonly string[],
): Promise<undefined> {
  const named = nodeIn(options, names);
  const dir = await knownDir(context);
  const killed =
    named === null || options.what === "router"
      ? await demoKillRouter(dir)
      : await demoKill(dir, named, options.what, hostOf(context));
  const node = named ?? "router";
  const text =
    killed === 0
      ? `Nothing of it runs on ${node}.`
      : `Killed ${countText(killed, "process", "processes")} of ${node}.`;
  context.result({ node, what: options.what, killed }, [text]);
  return undefined;
}

/** `pgherd demo start` */
export async function start(
  context: CommandContext,
  options: PartOptions,
  names: readonly string[],
): Promise<undefined> {
  const named = nodeIn(options, names);
  const dir = await knownDir(context);
  const started =
    named === null || options.what === "router"
      ? await demoStartRouter(dir, hostOf(context))
      : await demoStart(dir, named, options.what, hostOf(context));
  const node = named ?? "router";
  context.result({ node, what: options.what, started }, [
    started ? `${node} is started.` : `${node} runs already.`,
  ]);
  return undefined;
}

function givenDir(context: CommandContext): string | null {
  const { dir } = context.globals;
  return dir === undefined ? null : resolve(context.io.directory, dir);
}

/** The demo named by --dir, else the last one. @throws Fault NOT_FOUND */
async function knownDir(context: CommandContext): Promise<string> {
  const dir = givenDir(context) ?? (await lastDemoDir(context.io.env));
  if (dir !== null) return dir;
  // A demo started under another name of this user (sudo) is found at its usual place.
  if ((await findDemo(defaultDir(context))) !== null) return defaultDir(context);
  throw new Fault("NOT_FOUND", "There is no demo", {
    hint: "Start one with `pgherd demo up`, or name its directory with --dir.",
  });
}

/** The last demo, if it is still there: `up` shows it or brings it back. */
async function currentDemo(context: CommandContext): Promise<string | null> {
  const dir = await lastDemoDir(context.io.env);
  return dir !== null && (await findDemo(dir)) !== null ? dir : null;
}

function defaultDir(context: CommandContext): string {
  return defaultDemoDir(context.io.env, process.getuid?.() === 0);
}

function hostOf(context: CommandContext): DemoHost {
  const { env, clock, timers, interrupted } = context.io;
  return { env, clock, timers, interrupted, random: systemRandom, note: (line) => context.note([line]) };
}
