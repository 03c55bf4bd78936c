import type { ClusterStatus } from "../../cluster/status.ts";
import { Fault, toFault } from "../../values/fault.ts";
import type { CommandContext } from "../context.ts";
import { errorLines } from "../render/error.ts";
import { statusLines } from "../render/status.ts";
import { topologyLines, topologyOf } from "../render/topology.ts";

interface StatusOptions {
  /** Milliseconds between redraws; true = the default. */
  readonly watch?: number | true;
}

const defaultWatchMs = 2000;
const clearScreen = "\u001b[H\u001b[2J";

/** `pgherd status` */
export async function status(context: CommandContext, options: StatusOptions): Promise<undefined> {
  if (options.watch !== undefined) {
    await watch(context, options.watch === true ? defaultWatchMs : options.watch);
    return undefined;
  }
  const current = await readStatus(context);
  context.result(current, statusLines(current, context.look()));
  return undefined;
}

/** `pgherd topology` */
export async function topology(context: CommandContext): Promise<undefined> {
  const current = await readStatus(context);
  context.result(topologyOf(current), topologyLines(current, context.look()));
  return undefined;
}

/** From an agent; when none answers, from the DCS itself, which a node file leads to. */
async function readStatus(context: CommandContext): Promise<ClusterStatus> {
  const client = await context.reader();
  try {
    return await client.status();
  } catch (thrown) {
    const fault = toFault(thrown);
    const [nodeFile] = (await context.location()).nodeFiles;
    if (fault.code !== "API_UNREACHABLE" || nodeFile === undefined) throw thrown;
    return readDcs(context, nodeFile, fault);
  }
}

async function readDcs(context: CommandContext, nodeFile: string, silence: Fault): Promise<ClusterStatus> {
  const [{ statusFromDcs }, { openDcs }, { readNodeAccess }] = await Promise.all([
    import("../status-from-dcs.ts"),
    import("../../dcs/open.ts"),
    import("../node-access.ts"),
  ]);
  try {
    const { config } = await readNodeAccess(nodeFile, context.io.env);
    const dcs = await openDcs(config, { clock: context.io.clock, timers: context.io.timers });
    try {
      const status = await statusFromDcs(dcs, config.cluster, context.io);
      context.note(["? No agent answers; this is what the DCS says."]);
      return status;
    } finally {
      await dcs.close();
    }
  } catch (thrown) {
    const store = toFault(thrown);
    throw new Fault("API_UNREACHABLE", "No agent answers, and the DCS cannot be read either", {
      detail: [silence.detail, store.message, store.detail].filter((part) => part !== null).join("\n"),
      hint: "See that an agent runs, or start the demo again: pgherd demo up",
      cause: thrown,
    });
  }
}

/** Draws until interrupted. With --json each picture is one line, so that a program can read them as they come. */
async function watch(context: CommandContext, everyMs: number): Promise<void> {
  const { io } = context;
  while (!io.interrupted.aborted) {
    const drawn = await draw(context);
    const clear = io.stdout.terminal && !context.json ? clearScreen : "";
    io.stdout.write(`${clear}${drawn}\n`);
    await io.timers.sleep(everyMs, io.interrupted);
  }
}

/** One picture; a failure is drawn too, because the next look may succeed. */
async function draw(context: CommandContext): Promise<string> {
  try {
    const current = await readStatus(context);
    return context.json ? JSON.stringify(current) : statusLines(current, context.look()).join("\n");
  } catch (thrown) {
    const report = toFault(thrown).report();
    if (context.json) return JSON.stringify(report);
    return errorLines(report, { kind: "none" }, context.look()).join("\n");
  }
}
