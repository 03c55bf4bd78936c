import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { nodeStates } from "../../src/cluster/records.ts";
import type { ClusterStatus } from "../../src/cluster/status.ts";
import { startCluster, type CommandResult, type TestCluster } from "../support/cluster.ts";
import { makeTempDir, waitFor } from "../support/process.ts";

const program = fileURLToPath(new URL("../../bin/pgherd", import.meta.url));
const temp = makeTempDir("cli");

/** Runs the program with an environment of its own, naming no cluster by itself. */
function pgherd(env: Readonly<Record<string, string>>, ...args: string[]): Promise<CommandResult> {
  const clean = { PATH: process.env["PATH"] ?? "", HOME: temp.path, ...env };
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      [program, ...args],
      { env: clean, timeout: 60_000 },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : error.code;
        resolve({ code: typeof code === "number" ? code : -1, stdout, stderr });
      },
    );
  });
}

describe("the command line of a running cluster", () => {
  let cluster: TestCluster;
  let apis: readonly string[];

  beforeAll(async () => {
    cluster = await startCluster({ label: "cli", nodes: 3, ttlSeconds: 2 });
    apis = (await cluster.demo()).nodes.map((node) => node.api);
  });
  afterAll(async () => {
    await cluster.remove();
    await temp.remove();
  });

  const status = async (): Promise<ClusterStatus> => (await cluster.json("status")) as ClusterStatus;
  const standby = async (): Promise<string> => (await cluster.settled()).standbys[0] ?? "";

  it.each([
    "status",
    "topology",
    "history",
    "events",
    "explain",
    "replication",
    "cluster matrix",
    "config show",
    "config show --stored",
    "doctor",
    "version",
    "demo status",
    "switchover --dry-run",
    "restart --all --dry-run",
    "reload --all --dry-run",
    "pause --dry-run",
    "config set ttl=3s --dry-run",
  ])("prints exactly one JSON document for %s", async (words) => {
    const args = words.split(" ");
    await cluster.settled();
    const { code, stdout, stderr } = await cluster.cli(...args, "--json");
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout)).toBeTypeOf("object");
    const people = await cluster.cli(...args);
    expect(people.code, people.stderr).toBe(0);
    for (const line of people.stdout.split("\n"))
      if (!line.includes("postgresql://")) expect(line.length).toBeLessThanOrEqual(100);
  });

  it("shows each node with the words of the reference", async () => {
    const { primary } = await cluster.settled();
    const seen = await status();
    expect(seen).toMatchObject({ cluster: "demo", health: "ok", leader: primary, paused: false });
    expect(seen.nodes).toHaveLength(3);
    for (const node of seen.nodes) {
      expect(nodeStates).toContain(node.state);
      expect(node.role).toBe(node.name === primary ? "primary" : "standby");
    }
  });

  it("finds the cluster by a node file, by a URL and by the environment, and passes over an agent that is away", async () => {
    const [node] = (await cluster.demo()).nodes;
    const gone = "http://127.0.0.1:9";
    for (const [env, args] of [
      [{}, ["--config", node?.config ?? ""]],
      [{}, ["--api", gone, "--api", apis[1] ?? ""]],
      [{ PGHERD_API: `${gone}, ${apis[2] ?? ""}` }, []],
    ] as const) {
      const { code, stdout, stderr } = await pgherd(env, "status", "--json", ...args);
      expect(code, stderr).toBe(0);
      expect(JSON.parse(stdout)).toMatchObject({ cluster: "demo" });
    }
  });

  it("changes nothing without a token or with a wrong one", async () => {
    for (const [env, code] of [
      [{}, 1],
      [{ PGHERD_TOKEN: "wrong" }, 1],
    ] as const) {
      const refused = await pgherd(env, "pause", "--yes", "--api", apis[0] ?? "");
      expect(refused.code).toBe(code);
      expect(refused.stderr).toContain("[UNAUTHORIZED]");
      expect(refused.stderr).toContain("Nothing was changed.");
    }
    expect((await status()).paused).toBe(false);
  });

  it("takes the token from a file, from the environment and from the node's own secrets", async () => {
    const [node] = (await cluster.demo()).nodes;
    const secrets = readFileSync(`${node?.state_dir ?? ""}/secrets.json`, "utf8");
    const { api } = JSON.parse(secrets) as { readonly api: { readonly token: string } };
    const file = `${temp.path}/token`;
    writeFileSync(file, `${api.token}\n`, { mode: 0o600 });
    for (const [env, args] of [
      [{}, ["--api", apis[0] ?? "", "--token-file", file]],
      [{ PGHERD_TOKEN: api.token }, ["--api", apis[0] ?? ""]],
      [{}, ["--config", node?.config ?? ""]],
    ] as const) {
      const { code, stdout, stderr } = await pgherd(env, "pause", "--dry-run", "--json", ...args);
      expect(code, stderr).toBe(0);
      expect(JSON.parse(stdout)).toEqual({ dry_run: true, diff: ["+ pause: true"] });
    }
  });

  it("refuses a switchover to a node that is unknown or leads, and changes nothing", async () => {
    const { primary, timeline } = await cluster.settled();
    for (const [to, refusal] of [
      ["db9", "SWITCHOVER_CANDIDATE_UNKNOWN"],
      [primary, "SWITCHOVER_CANDIDATE_IS_LEADER"],
    ] as const) {
      const refused = await cluster.cli("switchover", "--to", to, "--yes", "--json");
      expect(refused.code).toBe(1);
      expect(JSON.parse(refused.stdout)).toMatchObject({ code: refusal });
    }
    const unasked = await cluster.cli("switchover");
    expect(unasked.code).toBe(2);
    expect(await cluster.settled()).toMatchObject({ primary, timeline });
  });

  it("moves the primary to the node that is named, and says on which timeline it is", async () => {
    const { timeline } = await cluster.settled();
    const to = await standby();
    const { code, stdout, stderr } = await cluster.cli("switchover", "--to", to, "--yes");
    expect(code, stderr).toBe(0);
    expect(stdout).toContain(to);
    expect(stdout).toContain(`timeline ${timeline + 1}`);
    expect(await cluster.settled()).toMatchObject({ primary: to, timeline: timeline + 1 });
    expect((await cluster.cli("history")).stdout).toContain("switchover");
  });

  it("schedules a switchover, shows it, and forgets it", async () => {
    await cluster.settled();
    const at = "2099-01-01T00:00:00Z";
    expect((await cluster.cli("switchover", "--at", at, "--yes")).code).toBe(0);
    await waitFor(
      async () => (await status()).scheduled_switchover?.at.startsWith("2099") === true || undefined,
      {
        timeoutMs: 10_000,
        what: "the switchover is scheduled",
      },
    );
    expect((await cluster.cli("switchover", "--cancel", "--yes")).code).toBe(0);
    await waitFor(async () => (await status()).scheduled_switchover === null || undefined, {
      timeoutMs: 10_000,
      what: "the switchover is forgotten",
    });
    expect((await cluster.cli("switchover", "--cancel", "--yes")).code).toBe(1);
  });

  it("changes settings by a diff, refuses a misspelt key, and restarts only what waits for it", async () => {
    await cluster.settled();
    const typo = await cluster.cli("config", "set", "max_lag_on_failovr=2MB", "--yes");
    expect(typo.code).toBe(1);
    expect(typo.stderr).toContain("did you mean max_lag_on_failover?");
    const done = await cluster.cli("config", "set", "postgresql.parameters.max_connections=117", "--yes");
    expect(done.code, done.stderr).toBe(0);
    expect(done.stdout).toBe("+ postgresql.parameters.max_connections: 117\n");
    await waitFor(async () => (await status()).nodes.every((node) => node.pending_restart) || undefined, {
      timeoutMs: 20_000,
      what: "all nodes wait for a restart",
    });
    const restarted = await cluster.cli("restart", "--all", "--if-pending", "--yes");
    expect(restarted.code, restarted.stderr).toBe(0);
    const { primary } = await cluster.settled();
    expect(await cluster.sql(primary, "show max_connections")).toEqual([{ max_connections: "117" }]);
    const file = `${temp.path}/settings.yml`;
    writeFileSync(file, "ttl: 2\n");
    expect((await cluster.cli("config", "diff", file)).stdout).toContain(
      "- postgresql.parameters.max_connections: 117",
    );
  });

  it("copies a standby anew and waits until it streams, but never the leader", async () => {
    const { primary } = await cluster.settled();
    const refused = await cluster.cli("reinit", primary, "--yes", "--json");
    expect(refused.code).toBe(1);
    expect(JSON.parse(refused.stdout)).toMatchObject({ code: "REINIT_OF_LEADER" });
    const name = await standby();
    const done = await cluster.cli("reinit", name, "--yes", "--json");
    expect(done.code, done.stderr).toBe(0);
    expect(JSON.parse(done.stdout)).toMatchObject({ node: name, done: true });
    expect((await status()).nodes.find((node) => node.name === name)?.state).toBe("streaming");
    expect(await cluster.events(name)).toContainEqual(expect.objectContaining({ event: "clone_done" }));
  });

  it("pauses and resumes", async () => {
    await cluster.settled();
    expect((await cluster.cli("pause", "--yes")).code).toBe(0);
    await waitFor(async () => (await status()).paused || undefined, {
      timeoutMs: 10_000,
      what: "it is paused",
    });
    expect((await cluster.cli("pause", "--yes", "--json")).stdout).toContain('"changed": false');
    expect((await cluster.cli("resume", "--yes")).code).toBe(0);
    await waitFor(async () => !(await status()).paused || undefined, {
      timeoutMs: 10_000,
      what: "it acts again",
    });
  });

  it("answers a monitoring system: 0 for a healthy node, 2 for one whose host is dead, and sees it come back", async () => {
    const name = await standby();
    const healthy = await cluster.cli("node", "check", name);
    expect(healthy.stdout).toMatch(new RegExp(`^PGHERD OK - ${name}: standby; streaming from `));
    expect(healthy.code).toBe(0);
    expect((await cluster.cli("remove", name, "--yes", "--json")).stdout).toContain("REMOVE_RUNNING_NODE");
    await cluster.kill(name, "host");
    const dead = await cluster.cli("node", "check", name);
    expect(dead.stdout).toMatch(/^PGHERD CRITICAL - /);
    expect(dead.code).toBe(2);
    expect((await cluster.cli("cluster", "matrix")).stdout).toContain(`? ${name} could not be asked`);
    await cluster.start(name, "host");
    const back = await cluster.cli("node", "rejoin", name, "--yes");
    expect(back.code, back.stderr).toBe(0);
    await cluster.settled();
  });

  it("completes in bash what the program itself prints", async () => {
    const { stdout } = await pgherd({}, "completion", "bash");
    expect(stdout).toContain("complete -o bashdefault -o default -F _pgherd pgherd");
  });

  it("reads the DCS itself when no agent answers", async () => {
    await cluster.settled();
    for (const name of await cluster.names()) await cluster.kill(name, "host");
    const { code, stdout, stderr } = await cluster.cli("status", "--json");
    expect(code, stderr).toBe(0);
    expect(stderr).toContain("No agent answers");
    const seen = JSON.parse(stdout) as ClusterStatus;
    expect(seen).toMatchObject({ cluster: "demo", health: "down", leader: null });
    expect(seen.nodes.map((node) => node.state)).toEqual(["unknown", "unknown", "unknown"]);
    const events = await cluster.cli("events", "--json");
    expect(events.code).toBe(1);
    expect(JSON.parse(events.stdout)).toMatchObject({ code: "API_UNREACHABLE" });
  });
});
