import { join } from "node:path";
import { z } from "zod";
import { readIfPresent } from "../postgres/durable-file.ts";
import { Fault } from "../values/fault.ts";

const processSchema = z.object({ pid: z.number(), startTicks: z.number(), bootId: z.string() });

const memberSchema = z.object({
  name: z.string(),
  dir: z.string(),
  endpoint: z.string(),
  peer: z.string(),
  process: processSchema.nullable(),
});

const nodeSchema = z.object({
  name: z.string(),
  dir: z.string(),
  port: z.number(),
  api: z.string(),
  config: z.string(),
  data_dir: z.string(),
  state_dir: z.string(),
  log: z.string(),
  supervisor: processSchema.nullable(),
});

const routerSchema = z.object({
  name: z.string(),
  dir: z.string(),
  ports: z.object({ primary: z.number(), standby: z.number(), admin: z.number(), metrics: z.number() }),
  config: z.string(),
  state_dir: z.string(),
  log: z.string(),
  process: processSchema.nullable(),
});

const backupSchema = z.object({
  name: z.string(),
  dir: z.string(),
  port: z.number(),
  config: z.string(),
  state_dir: z.string(),
  repository: z.string(),
  log: z.string(),
  process: processSchema.nullable(),
});

const demoSchema = z.object({
  format: z.literal(1),
  cluster: z.string(),
  dir: z.string(),
  /** As whom everything runs; null = as the user who started the demo. */
  runAs: z.object({ user: z.string(), uid: z.number(), gid: z.number(), home: z.string() }).nullable(),
  /** The program and the script of every agent, and which build it is; null = not installed yet. */
  program: z.object({ node: z.string(), script: z.string(), build: z.string().default("") }).nullable(),
  /** The cluster's settings at its creation. */
  settings: z.record(z.string(), z.unknown()).default({}),
  role: z.object({ name: z.string(), database: z.string(), password: z.string() }),
  etcd: z.object({ program: z.string(), token: z.string(), members: z.array(memberSchema) }),
  nodes: z.array(nodeSchema),
  /** null = the demo has none. */
  router: routerSchema.nullable().default(null),
  /** null = the demo has none. */
  backup: backupSchema.nullable().default(null),
});

/** `DIR/demo.json`: all there is to know of a demo to show, stop and start it. Mode 0600: it holds a password. */
export type DemoFile = z.infer<typeof demoSchema>;
/** A process that was started for the demo, told apart from later ones under its number. */
export type DemoProcess = z.infer<typeof processSchema>;
/** One etcd member. */
export type DemoMember = z.infer<typeof memberSchema>;
/** One node: an agent and its PostgreSQL. */
export type DemoNode = z.infer<typeof nodeSchema>;
/** The router in front of the nodes. */
export type DemoRouter = z.infer<typeof routerSchema>;
/** The backup server of the cluster. */
export type DemoBackup = z.infer<typeof backupSchema>;
/** What every agent of the demo runs. */
export type DemoProgram = NonNullable<DemoFile["program"]>;
/** As whom the demo's programs run. */
export type RunAs = NonNullable<DemoFile["runAs"]>;

/** The path of a demo's file. */
export const demoFilePath = (dir: string): string => join(dir, "demo.json");

/** The text of the file. */
export function formatDemoFile(demo: DemoFile): string {
  return `${JSON.stringify(demo, null, 2)}\n`;
}

/** The demo in a directory; null when there is none. @throws Fault CONFIG_UNREADABLE */
export async function findDemo(dir: string): Promise<DemoFile | null> {
  const path = demoFilePath(dir);
  try {
    const text = await readIfPresent(path);
    return text === null ? null : demoSchema.parse(JSON.parse(text));
  } catch {
    // Without the cause: it could quote the password.
    throw new Fault("CONFIG_UNREADABLE", `${path} cannot be read or understood.`, {
      hint: "Run this as the user who started the demo; or remove the directory and start a new demo.",
    });
  }
}

/** The demo in a directory. @throws Fault NOT_FOUND, CONFIG_UNREADABLE */
export async function readDemo(dir: string): Promise<DemoFile> {
  const demo = await findDemo(dir);
  if (demo !== null) return demo;
  throw new Fault("NOT_FOUND", `There is no demo in ${dir}.`, {
    hint: "Start one with `pgherd demo up`, or name its directory with --dir.",
  });
}

/** A node of the demo by its name. @throws Fault NODE_UNKNOWN */
export function nodeOf(demo: DemoFile, name: string): DemoNode {
  const node = demo.nodes.find((each) => each.name === name);
  if (node !== undefined) return node;
  throw new Fault("NODE_UNKNOWN", `The demo has no node ${name}.`, {
    hint: `Its nodes are ${demo.nodes.map((each) => each.name).join(", ")}.`,
  });
}
