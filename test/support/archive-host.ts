import { execFile, spawn, type ChildProcess } from "node:child_process";
import { closeSync, mkdirSync, openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { ReceiverRecord } from "../../src/cluster/records.ts";
import type { TestCluster } from "./cluster.ts";
import type { StoreReader } from "./durability.ts";
import { freePort } from "./ports.ts";
import { killProcessesUnder, processesUnder, waitFor } from "./process.ts";

const run = promisify(execFile);
const program = fileURLToPath(new URL("../../bin/pgherd", import.meta.url));

/** A backup server of its own beside a test cluster: `pgherd backup serve` with its receiver. */
export interface ArchiveHost {
  readonly name: string;
  readonly dir: string;
  /** What its receiver says of itself in the store; null = nothing yet. */
  record(): Promise<ReceiverRecord | null>;
  /** Waits until its receiver streams from this node under its proven name. */
  streaming(node: string): Promise<void>;
  /** SIGKILL for the receiver alone; the server starts it again. */
  killReceiver(): Promise<void>;
  /** Stops the receiver where it is, or lets it go on. */
  freezeReceiver(frozen: boolean): void;
  /** SIGKILL for everything of it, at once. */
  kill(): Promise<void>;
  start(): Promise<void>;
  /** Runs `pgherd backup ... --config FILE --json` and parses its answer. @throws Error with its output */
  backup(...args: string[]): Promise<unknown>;
}

/** A flat YAML document. */
function yaml(document: Readonly<Record<string, unknown>>): string {
  return Object.entries(document)
    .map(([key, value]) => `${key}: ${JSON.stringify(value)}\n`)
    .join("");
}

function signalReceiver(dir: string, name: NodeJS.Signals): void {
  const found = processesUnder(dir).filter(({ command }) => command.includes("backup-receiver"));
  if (found.length === 0) throw new Error("there is no receiver");
  for (const { pid } of found) process.kill(pid, name);
}

/** Starts it; it is ended with the cluster's directory. */
export async function startArchiveHost(
  cluster: TestCluster,
  store: StoreReader,
  name = "archive",
  place = `host-${name}`,
): Promise<ArchiveHost> {
  const demo = await cluster.demo();
  const dir = join(cluster.dir, place);
  mkdirSync(dir, { recursive: true });
  const port = await freePort();
  const config = join(dir, "backup.yml");
  const log = join(dir, "server.log");
  writeFileSync(
    config,
    yaml({
      cluster: demo.cluster,
      name,
      address: "127.0.0.1",
      repository: join(dir, "repository"),
      state_dir: join(dir, "state"),
      retention: "REDUNDANCY 1",
      minimum_redundancy: 1,
      dcs: { etcd: demo.etcd.members.map((member) => member.endpoint.replace(/^http:\/\//, "")) },
      api: { listen: "127.0.0.1", port },
      log: { level: "debug", format: "json" },
    }),
  );
  let child: ChildProcess | null = null;
  const record = async (): Promise<ReceiverRecord | null> => {
    const text = await store.text(`pgherd/receivers/${name}`);
    return text === null ? null : (JSON.parse(text) as ReceiverRecord);
  };
  const start = async (): Promise<void> => {
    const out = openSync(log, "a");
    child = spawn(process.execPath, [program, "backup", "serve", "--config", config], {
      cwd: dir,
      stdio: ["ignore", out, out],
    });
    closeSync(out);
    await Promise.resolve();
  };
  await start();
  return {
    name,
    dir,
    record,
    streaming: async (node) => {
      await waitFor(
        async () => {
          const found = await record();
          if (found?.state === "streaming" && found.upstream === node && found.token !== null) return true;
          throw new Error(JSON.stringify(found));
        },
        { timeoutMs: 30_000, what: `the receiver ${name} streams from ${node}` },
      );
    },
    killReceiver: async () => {
      signalReceiver(dir, "SIGKILL");
      await Promise.resolve();
    },
    freezeReceiver: (frozen) => signalReceiver(dir, frozen ? "SIGSTOP" : "SIGCONT"),
    kill: async () => {
      child?.kill("SIGKILL");
      await killProcessesUnder(dir);
    },
    start,
    backup: async (...args) => {
      const words = [program, "backup", ...args, "--config", config, "--json"];
      const { stdout } = await run(process.execPath, words, { cwd: dir, timeout: 240_000 });
      return JSON.parse(stdout) as unknown;
    },
  };
}
