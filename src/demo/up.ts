import { randomInt } from "node:crypto";
import { createServer } from "node:net";
import { join } from "node:path";
import { checkSettings } from "../config/cluster-settings.ts";
import { invalidConfig } from "../config/checked-file.ts";
import { readIfPresent } from "../postgres/durable-file.ts";
import { Fault } from "../values/fault.ts";
import { backupReady, drawBackup, startBackup } from "./backup-server.ts";
import { clusterHealthy, startAgent } from "./agents.ts";
import { demoFilePath, findDemo, formatDemoFile, type DemoFile, type RunAs } from "./demo-file.ts";
import { makeRole, roleUsable } from "./demo-role.ts";
import { etcdReady, startMember } from "./etcd.ts";
import type { DemoHost } from "./host.ts";
import { installProgram, ownBuild } from "./installation.ts";
import { nodeFile, passfile } from "./node-file.ts";
import { rememberDemoDir } from "./pointer.ts";
import { living } from "./processes.ts";
import { drawRouter, routerReady, routerRuns, startRouter } from "./router.ts";
import { chooseRunAs, claimDirectory, findProgram, makeDirectory, writePrivately } from "./run-as.ts";
import { initialSettings, type SettingsTree } from "./settings.ts";

/** What `demo up` was asked for. */
export interface UpRequest {
  readonly dir: string;
  /** null = 3, or as many as the demo that is there has. */
  readonly nodes: number | null;
  /** null = 3. */
  readonly dcsMembers: number | null;
  readonly ttlMs: number | null;
  /** `key=value` of cluster settings. */
  readonly settings: readonly string[];
  /** Of a new demo: its router on the ports a router has by default, on drawn ones, or none. */
  readonly router: "usual" | "drawn" | "none";
  /** With a backup server; a demo that has none gets one. */
  readonly backup: boolean;
}

/**
 * Brings a demo up: a new one, or what does not run of the one that is there. Returns when all nodes are well and the
 * demo's role can log in everywhere.
 * @throws Fault USAGE, BINARIES_MISSING, DATA_DIR_*, DCS_UNREACHABLE, TIMEOUT, ...
 */
export async function demoUp(request: UpRequest, host: DemoHost): Promise<DemoFile> {
  const known = await findDemo(request.dir);
  if (known !== null) refuseOtherShape(known, request);
  let demo = known ?? (await prepare(request, host));
  if (request.backup && demo.backup === null) {
    const [port = 0] = await freePorts(1);
    demo = { ...demo, backup: drawBackup(demo.dir, port) };
    await saveDemo(demo);
  }
  await rememberDemoDir(host.env, demo.dir);
  demo = await startMissing(demo, host);
  const status = await clusterHealthy(demo, host);
  const leader = demo.nodes.find((node) => node.name === status.leader);
  if (leader !== undefined) await makeRole(demo, leader);
  await roleUsable(demo, host);
  return withBackup(await withRouter(demo, host), host);
}

/** Starts the backup server, if the demo has one that does not run, and waits for its first backup. */
async function withBackup(demo: DemoFile, host: DemoHost): Promise<DemoFile> {
  const { backup } = demo;
  if (backup === null) return demo;
  let running = backup;
  if (living(backup.process) === null) {
    host.note("Starting the backup server; it takes its first backup");
    running = { ...backup, process: await startBackup(demo, backup, host) };
    await saveDemo({ ...demo, backup: running });
  }
  await backupReady(running, host);
  return { ...demo, backup: running };
}

/** Starts the router, if the demo has one that does not run, and waits until it is ready. */
async function withRouter(demo: DemoFile, host: DemoHost): Promise<DemoFile> {
  const { router } = demo;
  if (router === null) return demo;
  let running = router;
  if (!routerRuns(router)) {
    host.note("Starting the router");
    running = { ...router, process: await startRouter(demo, router, host) };
    await saveDemo({ ...demo, router: running });
  }
  await routerReady(running, host);
  return { ...demo, router: running };
}

function refuseOtherShape(demo: DemoFile, request: UpRequest): void {
  const asked = { nodes: request.nodes, members: request.dcsMembers };
  const nodesDiffer = asked.nodes !== null && asked.nodes !== demo.nodes.length;
  const membersDiffer = asked.members !== null && asked.members !== demo.etcd.members.length;
  if (!nodesDiffer && !membersDiffer && request.ttlMs === null && request.settings.length === 0) return;
  if (!nodesDiffer && !membersDiffer)
    throw new Fault(
      "USAGE",
      `There is a demo in ${demo.dir} already; its settings are changed with config set.`,
      {
        hint: "pgherd config set ttl=2s",
      },
    );
  throw new Fault("USAGE", `There is a demo in ${demo.dir} already, and it has another shape.`, {
    detail: `It has ${demo.nodes.length} nodes and ${demo.etcd.members.length} etcd members.`,
    hint: "Remove it with `pgherd demo down`, or name another directory with --dir.",
  });
}

/** Draws everything, writes the demo's files, and starts nothing. */
async function prepare(request: UpRequest, host: DemoHost): Promise<DemoFile> {
  const settings = initialSettings(request.settings, request.ttlMs);
  const problems = checkSettings(settings);
  if (problems.length > 0) throw invalidConfig("the given cluster settings", problems);
  const runAs = chooseRunAs();
  const etcd = await findProgram("etcd", host.env, runAs);
  if (etcd === null)
    throw new Fault("BINARIES_MISSING", "etcd was not found.", {
      hint: "On Debian: apt-get install etcd-server. `npm run demo` does that, and keeps its service off.",
    });
  await claimDirectory(request.dir, runAs);
  host.note(`New demo in ${request.dir}${runAs === null ? "" : `, running as ${runAs.user}`}`);
  const demo = await draw(request, host, { runAs, etcd, settings });
  await saveDemo(demo); // first of all: whatever is interrupted from here on can be continued or removed
  return demo;
}

/** What the machine decides about a demo. */
interface Surroundings {
  readonly runAs: RunAs | null;
  readonly etcd: string;
  readonly settings: SettingsTree;
}

async function draw(request: UpRequest, host: DemoHost, found: Surroundings): Promise<DemoFile> {
  const { dir } = request;
  const nodeCount = request.nodes ?? 3;
  const memberCount = request.dcsMembers ?? 3;
  const ports = await freePorts(nodeCount * 2 + memberCount * 2 + 4);
  const routerPorts = ports.splice(0, 4);
  const url = (): string => `http://127.0.0.1:${ports.pop() ?? 0}`;
  return {
    format: 1,
    cluster: "demo",
    dir,
    runAs: found.runAs,
    program: null,
    settings: found.settings,
    role: { name: "demo", database: "demo", password: host.random.secret(18) },
    etcd: {
      program: found.etcd,
      token: host.random.uuid(),
      members: Array.from({ length: memberCount }, (_, index) => ({
        name: `etcd${index + 1}`,
        dir: join(dir, `etcd${index + 1}`),
        endpoint: url(),
        peer: url(),
        process: null,
      })),
    },
    nodes: Array.from({ length: nodeCount }, (_, index) => {
      const name = `db${index + 1}`;
      const home = join(dir, name);
      return {
        name,
        dir: home,
        port: ports.pop() ?? 0,
        api: url(),
        config: join(home, "node.yml"),
        data_dir: join(home, "data"),
        state_dir: join(home, "state"),
        log: join(home, "agent.log"),
        supervisor: null,
      };
    }),
    router:
      request.router === "none"
        ? null
        : await drawRouter(dir, routerPorts, request.router === "usual" ? isFree : null),
    backup: null,
  };
}

/** Writes the node files and the password file, where they are missing: a node file may have been changed since. */
async function writeMissingFiles(demo: DemoFile): Promise<void> {
  for (const node of demo.nodes) {
    await makeDirectory(node.dir, demo.runAs);
    if ((await readIfPresent(node.config)) === null)
      await writePrivately(node.config, nodeFile(demo, node), demo.runAs);
  }
  const path = join(demo.dir, "passfile");
  if ((await readIfPresent(path)) === null) await writePrivately(path, passfile(demo), demo.runAs);
}

/** Writes DIR/demo.json. */
export async function saveDemo(demo: DemoFile): Promise<void> {
  await writePrivately(demoFilePath(demo.dir), formatDemoFile(demo), demo.runAs);
}

/** Starts what does not run; every start is written down before the next. */
async function startMissing(known: DemoFile, host: DemoHost): Promise<DemoFile> {
  let demo = known;
  await writeMissingFiles(demo);
  const nothingRuns = demo.nodes.every((node) => living(node.supervisor) === null);
  // A build made since then is taken over when no agent of the old one is left.
  if (nothingRuns || demo.program === null)
    demo = { ...demo, program: await installProgram(demo.dir, demo.runAs) };
  else if (demo.program.build !== (await ownBuild()))
    host.note("The running agents are of another build; `pgherd demo down` and `up` again bring this one.");
  const deadMembers = demo.etcd.members.filter((member) => living(member.process) === null);
  if (deadMembers.length > 0)
    host.note(`Starting etcd: ${deadMembers.map((member) => member.name).join(", ")}`);
  for (const member of deadMembers) {
    const started = { ...member, process: await startMember(demo, member, host) };
    const members = demo.etcd.members.map((each) => (each.name === member.name ? started : each));
    demo = { ...demo, etcd: { ...demo.etcd, members } };
    await saveDemo(demo);
  }
  await etcdReady(demo, host);
  const deadNodes = demo.nodes.filter((node) => living(node.supervisor) === null);
  if (deadNodes.length > 0) host.note(`Starting agents: ${deadNodes.map((node) => node.name).join(", ")}`);
  for (const node of deadNodes) {
    const started = { ...node, supervisor: await startAgent(demo, node, host) };
    demo = { ...demo, nodes: demo.nodes.map((each) => (each.name === node.name ? started : each)) };
    await saveDemo(demo);
  }
  return demo;
}

/** Free ports of 127.0.0.1, drawn below the range from which the kernel takes ports for outgoing connections. */
async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  for (let draws = 0; ports.size < count && draws < 2_000; draws += 1) {
    const port = randomInt(12_000, 32_000);
    if (await isFree(port)) ports.add(port);
  }
  if (ports.size < count) throw new Fault("PORT_OCCUPIED", "No free ports were found below 32000.");
  return [...ports];
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => server.close(() => resolve(true)));
  });
}
