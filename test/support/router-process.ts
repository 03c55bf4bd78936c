import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import type { DriverTarget } from "../drivers/driver.ts";
import { giveTo, type TestCluster } from "./cluster.ts";
import { freePorts } from "./ports.ts";
import { startProcess, waitFor, type TestProcess } from "./process.ts";
import { makeDirectory } from "../../src/demo/run-as.ts";
import pg from "pg";

const program = fileURLToPath(new URL("../../bin/pgherd", import.meta.url));

/** A router of the built product before a test cluster. */
export interface TestRouter {
  readonly process: TestProcess;
  /** The demo's role through the listener for writes. */
  readonly primary: DriverTarget;
  /** The same through the one for reads. */
  readonly standby: DriverTarget;
  /** Its metrics and HTTP paths. */
  readonly http: string;
  /** The console's port. */
  readonly admin: number;
}

/**
 * Starts a router in a directory of the cluster's and waits until it lets the demo's role in. It ends with the cluster's
 * directory, or when its process is stopped. `more`: further keys of its file; further listeners stand beside the usual two.
 */
export async function startTestRouter(
  cluster: TestCluster,
  name: string,
  { listeners, ...more }: Readonly<Record<string, unknown>> & { readonly listeners?: object } = {},
): Promise<TestRouter> {
  const demo = await cluster.demo();
  const dir = join(cluster.dir, `router-${name}`);
  await makeDirectory(dir, demo.runAs);
  const [primary = 0, standby = 0, admin = 0, metrics = 0] = await freePorts(4);
  const file = join(dir, "router.yml");
  const listener = (target: string, port: number): object => ({ target, port, listen: "127.0.0.1" });
  const content = {
    cluster: demo.cluster,
    router: name,
    address: "127.0.0.1",
    state_dir: join(dir, "state"),
    dcs: { etcd: demo.etcd.members.map((member) => new URL(member.endpoint).host) },
    listeners: {
      primary: listener("primary", primary),
      standby: listener("standby", standby),
      ...listeners,
    },
    admin: { listen: "127.0.0.1", port: admin },
    metrics: { listen: "127.0.0.1", port: metrics },
    ...more,
  };
  writeFileSync(file, stringify(content), { mode: 0o600 });
  giveTo(demo, file);
  const child = startProcess([process.execPath, program, "router", "--config", file], {
    cwd: dir,
    logFile: join(dir, "log"),
  });
  const through = (port: number): DriverTarget => ({
    host: "127.0.0.1",
    port,
    user: demo.role.name,
    password: demo.role.password,
    database: demo.role.database,
  });
  const ended = child.ended.then(() => {
    throw new Error(`the router ended:\n${child.output()}`);
  });
  ended.catch(() => undefined);
  try {
    await Promise.race([
      ended,
      waitFor(() => letsIn(through(primary)), { timeoutMs: 20_000, what: "the router" }),
    ]);
  } catch (error) {
    await child.stop();
    throw new Error(`${error instanceof Error ? error.message : String(error)}\n${child.output()}`);
  }
  return {
    process: child,
    primary: through(primary),
    standby: through(standby),
    http: `http://127.0.0.1:${metrics}`,
    admin,
  };
}

async function letsIn(target: DriverTarget): Promise<boolean> {
  const client = new pg.Client({ ...target, connectionTimeoutMillis: 3000, query_timeout: 3000 });
  client.on("error", () => undefined);
  try {
    await client.connect();
    await client.query("select 1");
    return true;
  } finally {
    await client.end().catch(() => undefined);
  }
}
