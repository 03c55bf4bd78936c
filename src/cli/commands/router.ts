import type { RouterReport, RoutersReport } from "../../api/client.ts";
import { readSessions } from "../../api/router-sessions.ts";
import type { SessionView } from "../../router/sessions.ts";
import { Fault, toFault } from "../../values/fault.ts";
import { nodeNamed } from "../ask-nodes.ts";
import { declined, type ChangeFlags, type CommandContext } from "../context.ts";
import { exitCodes } from "../exit-code.ts";
import { change } from "../failure.ts";
import { nearestWord } from "../../config/nearest.ts";
import { routerLines, sessionLines } from "../render/routers.ts";

/** `pgherd router status` */
export async function status(context: CommandContext): Promise<number> {
  const report = await (await context.reader()).routers();
  context.result(report, routerLines(report, context.look()));
  const silent = report.routers.some((router) => router.heard_s === null || router.heard_s > awayS);
  return silent || report.routers.length === 0 ? exitCodes.failed : exitCodes.done;
}

/** A router tells of itself every two seconds. */
const awayS = 10;

interface SessionsOptions {
  readonly router?: string;
}

/** `pgherd router sessions` */
export async function sessions(context: CommandContext, options: SessionsOptions): Promise<number> {
  const { routers } = await (await context.reader()).routers();
  const asked = options.router === undefined ? routers : [routerNamed(routers, options.router)];
  if (asked.length === 0)
    throw new Fault("NOT_FOUND", "The cluster has no router", {
      hint: "Start one: pgherd router --config FILE",
    });
  const token = await (await context.location()).token();
  const found: (SessionView & { readonly router: string })[] = [];
  const silent: string[] = [];
  for (const router of asked) {
    try {
      if (router.api_url == null) throw new Fault("API_UNREACHABLE", "it has no HTTP paths");
      const views = await readSessions(router.api_url, token, context.io.timers);
      found.push(...views.map((view) => ({ router: router.name, ...view })));
    } catch (thrown) {
      const fault = toFault(thrown);
      if (asked.length === 1) throw fault;
      silent.push(`? ${router.name} could not be asked: ${fault.detail ?? fault.message}`);
    }
  }
  context.note(silent);
  context.result(found, sessionLines(found, context.look()));
  return silent.length > 0 ? exitCodes.failed : exitCodes.done;
}

function routerNamed(routers: readonly RouterReport[], name: string): RouterReport {
  const found = routers.find((router) => router.name === name);
  if (found !== undefined) return found;
  const names = routers.map((router) => router.name);
  const near = nearestWord(name, names);
  throw new Fault("NOT_FOUND", `There is no router ${name}`, {
    detail: names.length === 0 ? "The cluster has none." : `There are ${names.join(", ")}.`,
    hint: near === undefined ? "See pgherd router status." : `Did you mean ${near}?`,
  });
}

/** `pgherd router detach NODE` */
export function detach(
  context: CommandContext,
  options: ChangeFlags,
  names: readonly string[],
): Promise<number | undefined> {
  return order(context, options, names, {
    kind: "detach",
    will: (node) => `no router gives ${node} new clients; sessions there go on`,
    question: (node) => `Give ${node} no new clients?`,
  });
}

/** `pgherd router drain NODE` */
export function drain(
  context: CommandContext,
  options: ChangeFlags,
  names: readonly string[],
): Promise<number | undefined> {
  return order(context, options, names, {
    kind: "drain",
    will: (node) => `no router gives ${node} new clients; sessions there leave it as soon as they rest`,
    question: (node) => `Send all clients away from ${node}?`,
  });
}

/** `pgherd router attach NODE` */
export function attach(
  context: CommandContext,
  options: ChangeFlags,
  names: readonly string[],
): Promise<number | undefined> {
  return order(context, options, names, {
    kind: "attach",
    will: (node) => `${node} gets clients again`,
    question: (node) => `Give ${node} clients again?`,
  });
}

interface NodeOrder {
  readonly kind: "detach" | "drain" | "attach";
  readonly will: (node: string) => string;
  readonly question: (node: string) => string;
}

async function order(
  context: CommandContext,
  options: ChangeFlags,
  names: readonly string[],
  { kind, will, question }: NodeOrder,
): Promise<number | undefined> {
  const node = nodeNamed(await (await context.reader()).status(), names[0] ?? "").name;
  if (options.dryRun === true) {
    context.result({ dry_run: true, order: kind, node }, [
      `Would order: ${will(node)}.`,
      "Nothing was changed.",
    ]);
    return undefined;
  }
  const answer = await declined(context, question(node), options);
  if (answer !== null) return answer;
  const client = await context.writer();
  const orders = await change(
    () => client.orderRouting({ order: kind, node, for_s: null }),
    "see pgherd router status",
  );
  context.result(orders, [`Ordered of all routers: ${will(node)}.`]);
  return undefined;
}

interface PauseOptions extends ChangeFlags {
  /** Milliseconds. */
  readonly for: number;
}

/** `pgherd router pause` */
export async function pause(context: CommandContext, options: PauseOptions): Promise<number | undefined> {
  const what = `new transactions wait in all routers, for ${options.for / 1000} s at most`;
  if (options.dryRun === true) {
    context.result({ dry_run: true, order: "pause" }, [`Would order: ${what}.`, "Nothing was changed."]);
    return undefined;
  }
  const answer = await declined(context, "Let new transactions wait in all routers?", options);
  if (answer !== null) return answer;
  const client = await context.writer();
  const orders = await change(
    () => client.orderRouting({ order: "pause", node: null, for_s: options.for / 1000 }),
    "see pgherd router status",
  );
  context.result(orders, [`Ordered: ${what}. It ends with pgherd router resume.`]);
  return undefined;
}

/** `pgherd router resume` */
export async function resume(context: CommandContext, options: ChangeFlags): Promise<number | undefined> {
  if (options.dryRun === true) {
    context.result({ dry_run: true, order: "resume" }, ["Would end the pause.", "Nothing was changed."]);
    return undefined;
  }
  const answer = await declined(context, "End the pause of the routers?", options);
  if (answer !== null) return answer;
  const client = await context.writer();
  const orders: RoutersReport["orders"] = await change(
    () => client.orderRouting({ order: "resume", node: null, for_s: null }),
    "see pgherd router status",
  );
  context.result(orders, ["Ordered: clients go on."]);
  return undefined;
}
