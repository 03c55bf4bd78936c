import type { DemoFile, DemoNode, RunAs } from "./demo-file.ts";

/** What `demo up --json` and `demo status --json` print: a running demo, for people's programs. */
export interface DemoDescription {
  readonly cluster: string;
  readonly dir: string;
  /** URLs that work as they are, password included. */
  readonly endpoints: { readonly primary: string; readonly standby: string };
  readonly nodes: readonly DemoNodeDescription[];
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

/** The living processes of a node. */
export interface NodePids {
  readonly agent: number | null;
  readonly guard: number | null;
  readonly postmaster: number | null;
}

/** Puts the description together. */
export function describe(
  demo: DemoFile,
  pidsOf: (node: DemoNode) => NodePids,
  memberPids: readonly (number | null)[],
): DemoDescription {
  return {
    cluster: demo.cluster,
    dir: demo.dir,
    endpoints: {
      primary: connectionUrl(demo, demo.nodes, "read-write", true),
      standby: connectionUrl(demo, demo.nodes, "prefer-standby", true),
    },
    nodes: demo.nodes.map((node) => {
      const pids = pidsOf(node);
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
    dcs: { kind: "etcd", endpoints: demo.etcd.members.map((member) => member.endpoint), pids: memberPids },
  };
}

/** Which server of several a connection wants (libpq's target_session_attrs). */
export type SessionTarget = "read-write" | "prefer-standby" | null;

/** A libpq URL for the demo's role on these nodes. */
export function connectionUrl(
  demo: DemoFile,
  nodes: readonly DemoNode[],
  target: SessionTarget,
  withPassword: boolean,
): string {
  const { name, password, database } = demo.role;
  const user = encodeURIComponent(name) + (withPassword ? `:${encodeURIComponent(password)}` : "");
  const hosts = nodes.map((node) => `127.0.0.1:${node.port}`).join(",");
  const query = target === null ? "" : `?target_session_attrs=${target}`;
  return `postgresql://${user}@${hosts}/${encodeURIComponent(database)}${query}`;
}

/** The command that runs a node's agent. */
export function agentArgv(demo: DemoFile, node: DemoNode): readonly [string, ...string[]] {
  const { node: program, script } = demo.program ?? { node: "node", script: "bin/pgherd" };
  return [program, script, "agent", "--config", node.config, "--supervised"];
}

/** Puts the change of user in front, for a shell of root. */
function asUser(runAs: RunAs | null, argv: readonly string[]): readonly string[] {
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
  const psql = (target: SessionTarget): string =>
    `${passfile} psql '${connectionUrl(demo, demo.nodes, target, false)}'`;
  const victim = leader ?? demo.nodes[0]?.name ?? "db1";
  const standby = demo.nodes.find((node) => node.name !== victim)?.name ?? victim;
  return [
    "Connect (the password stands in the passfile):",
    `  primary   ${psql("read-write")}`,
    `  standby   ${psql("prefer-standby")}`,
    "",
    "Next things to try:",
    `  ${command} status --watch`,
    `  ${command} switchover --to ${standby} --yes`,
    `  ${command} demo kill ${victim}              and look how another node takes over`,
    `  ${command} explain                    why it did`,
    `  ${command} demo start ${victim}             it comes back by itself`,
    `  ${command} demo down                  stop everything and remove ${demo.dir}`,
  ];
}
