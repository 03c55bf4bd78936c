import type { DemoBackupDescription } from "./backup-server.ts";
import type { DemoFile, DemoNode, DemoRouter, RunAs } from "./demo-file.ts";

/** What `demo up --json` and `demo status --json` print: a running demo, for people's programs. */
export interface DemoDescription {
  readonly cluster: string;
  readonly dir: string;
  /** URLs that work as they are, password included: of the router, or of the nodes themselves where there is none. */
  readonly endpoints: { readonly primary: string; readonly standby: string };
  readonly nodes: readonly DemoNodeDescription[];
  /** null = the demo has none. */
  readonly router: DemoRouterDescription | null;
  /** null = the demo has none. */
  readonly backup: DemoBackupDescription | null;
  readonly dcs: {
    readonly kind: "etcd";
    readonly endpoints: readonly string[];
    /** In the order of the endpoints; null = the member does not run. */
    readonly pids: readonly (number | null)[];
  };
}

/** One node of the description; a process number is null when there is no such process now. */
export interface DemoNodeDescription {
  readonly name: string;
  readonly postgres: string;
  readonly api: string;
  readonly data_dir: string;
  readonly config: string;
  readonly agent_pid: number | null;
  readonly guard_pid: number | null;
  readonly postmaster_pid: number | null;
  /** A line for the shell that starts this node's agent, as the right user. */
  readonly agent_command: string;
}

/** The router of the description. */
export interface DemoRouterDescription {
  readonly name: string;
  /** null = it does not run. */
  readonly pid: number | null;
  /** A URL of its console that works as it is. */
  readonly admin: string;
  /** Where /metrics, /health and /status are. */
  readonly http: string;
  readonly config: string;
  readonly log: string;
  /** A line for the shell that starts it, as the right user. */
  readonly command: string;
}

/** The living processes of a node. */
export interface NodePids {
  readonly agent: number | null;
  readonly guard: number | null;
  readonly postmaster: number | null;
}

/** The processes of a demo that live now. */
export interface DemoPids {
  readonly of: (node: DemoNode) => NodePids;
  readonly members: readonly (number | null)[];
  readonly router: number | null;
  readonly backup: DemoBackupDescription | null;
}

/** Puts the description together. */
export function describe(demo: DemoFile, living: DemoPids): DemoDescription {
  return {
    cluster: demo.cluster,
    dir: demo.dir,
    endpoints: {
      primary: endpointUrl(demo, "primary", true),
      standby: endpointUrl(demo, "standby", true),
    },
    nodes: demo.nodes.map((node) => {
      const pids = living.of(node);
      return {
        name: node.name,
        postgres: connectionUrl(demo, [node], null, true),
        api: node.api,
        data_dir: node.data_dir,
        config: node.config,
        agent_pid: pids.agent,
        guard_pid: pids.guard,
        postmaster_pid: pids.postmaster,
        agent_command: shellLine(asUser(demo.runAs, agentArgv(demo, node))),
      };
    }),
    router: demo.router === null ? null : describeRouter(demo, demo.router, living.router),
    backup: living.backup,
    dcs: {
      kind: "etcd",
      endpoints: demo.etcd.members.map((member) => member.endpoint),
      pids: living.members,
    },
  };
}

function describeRouter(demo: DemoFile, router: DemoRouter, pid: number | null): DemoRouterDescription {
  return {
    name: router.name,
    pid,
    admin: url(demo, `127.0.0.1:${router.ports.admin}`, consoleDatabase, true),
    http: `http://127.0.0.1:${router.ports.metrics}`,
    config: router.config,
    log: router.log,
    command: shellLine(asUser(demo.runAs, routerArgv(demo, router))),
  };
}

/** The database under which a router answers itself. */
const consoleDatabase = "pgherd";

/** Where writers and readers connect: the router, or all nodes and libpq finds out. */
function endpointUrl(demo: DemoFile, target: "primary" | "standby", withPassword: boolean): string {
  if (demo.router === null)
    return connectionUrl(
      demo,
      demo.nodes,
      target === "primary" ? "read-write" : "prefer-standby",
      withPassword,
    );
  return url(demo, `127.0.0.1:${demo.router.ports[target]}`, demo.role.database, withPassword);
}

/** Which server of several a connection wants (libpq's target_session_attrs). */
type SessionTarget = "read-write" | "prefer-standby" | null;

/** A libpq URL for the demo's role on these nodes. */
export function connectionUrl(
  demo: DemoFile,
  nodes: readonly DemoNode[],
  target: SessionTarget,
  withPassword: boolean,
): string {
  const hosts = nodes.map((node) => `127.0.0.1:${node.port}`).join(",");
  const query = target === null ? "" : `?target_session_attrs=${target}`;
  return url(demo, hosts, demo.role.database, withPassword) + query;
}

function url(demo: DemoFile, hosts: string, database: string, withPassword: boolean): string {
  const { name, password } = demo.role;
  const user = encodeURIComponent(name) + (withPassword ? `:${encodeURIComponent(password)}` : "");
  return `postgresql://${user}@${hosts}/${encodeURIComponent(database)}`;
}

/** The command that runs a node's agent. */
export function agentArgv(demo: DemoFile, node: DemoNode): readonly [string, ...string[]] {
  const { node: program, script } = demo.program ?? { node: "node", script: "bin/pgherd" };
  return [program, script, "agent", "--config", node.config, "--supervised"];
}

/** The command that runs the router. */
export function routerArgv(demo: DemoFile, router: DemoRouter): readonly [string, ...string[]] {
  const { node: program, script } = demo.program ?? { node: "node", script: "bin/pgherd" };
  return [program, script, "router", "--config", router.config, "--supervised"];
}

/** Puts the change of user in front, for a shell of root. */
export function asUser(runAs: RunAs | null, argv: readonly string[]): readonly string[] {
  if (runAs === null) return argv;
  const ids = [`--reuid=${runAs.uid}`, `--regid=${runAs.gid}`, "--clear-groups"];
  return ["setpriv", ...ids, "env", `HOME=${runAs.home}`, `USER=${runAs.user}`, ...argv];
}

/** Quotes words for a POSIX shell. */
export function shellLine(words: readonly string[]): string {
  return words
    .map((word) => (/^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`))
    .join(" ");
}

/**
 * What to print for people below the status table: how to connect, and what to try with this leader. No password in it.
 */
export function introduction(demo: DemoFile, command: string, leader: string | null): readonly string[] {
  const passfile = `PGPASSFILE=${shellLine([`${demo.dir}/passfile`])}`;
  const psql = (address: string): string => `${passfile} psql '${address}'`;
  const victim = leader ?? demo.nodes[0]?.name ?? "db1";
  const standby = demo.nodes.find((node) => node.name !== victim)?.name ?? victim;
  const move = `${command} switchover --to ${standby} --yes`;
  return [
    "Connect (the password stands in the passfile):",
    `  primary   ${psql(endpointUrl(demo, "primary", false))}`,
    `  standby   ${psql(endpointUrl(demo, "standby", false))}`,
    ...(demo.router === null ? [] : routerLines(demo, demo.router, psql)),
    "",
    "Next things to try:",
    `  ${command} status --watch`,
    ...(demo.router === null
      ? [`  ${move}`]
      : [`  ${move}    with a psql open on the primary's port: it goes on, its SETs too`]),
    `  ${command} demo kill ${victim}              and look how another node takes over`,
    `  ${command} explain                    why it did`,
    `  ${command} demo start ${victim}             it comes back by itself`,
    ...(demo.backup === null
      ? []
      : [
          `  ${command} backup list                what can be restored`,
          `  ${command} backup drill               restore it to scratch, start it, check it`,
          `  ${command} backup recover --time '1 minute ago'    the whole cluster back, a lost table with it; asks first`,
        ]),
    `  ${command} demo down                  stop everything and remove ${demo.dir}`,
  ];
}

function routerLines(
  demo: DemoFile,
  router: DemoRouter,
  psql: (address: string) => string,
): readonly string[] {
  const address = url(demo, `127.0.0.1:${router.ports.admin}`, consoleDatabase, false);
  return [`  console   ${psql(address)} -c 'SHOW POOL_NODES'`];
}
