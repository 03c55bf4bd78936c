import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, onTestFailed, test } from "vitest";
import { agentLab, type TestAgent } from "../support/agents.ts";
import { startEtcd, type TestEtcd } from "../support/etcd.ts";
import { binDir } from "../support/postgres.ts";
import { isAlive, waitFor } from "../support/process.ts";
import { startRelay } from "../support/relay.ts";

let etcd: TestEtcd;
const lab = agentLab("bad", () => etcd.endpoints);

beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(async () => {
  await lab.remove();
  await etcd.stop();
});

function reportOnFailure(): void {
  onTestFailed(() => void process.stderr.write(`${lab.report()}\n`));
}

/** Takes a port until the returned function is called. */
async function occupy(port: number): Promise<() => Promise<void>> {
  const server: Server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
  });
  return () => new Promise((resolve) => server.close(() => resolve()));
}

/** All that tells whether a directory was touched: names, sizes and contents of small files. */
function picture(dir: string): string {
  return execFileSync("find", [dir, "-printf", "%P %s %m %T@\n"], { encoding: "utf8" })
    .split("\n")
    .sort()
    .join("\n");
}

function initdb(dataDir: string): void {
  execFileSync(join(binDir, "initdb"), ["-D", dataDir, "-U", "postgres", "-A", "trust", "-N"], {
    stdio: ["ignore", "ignore", "inherit"],
  });
}

/** Idle WAL senders of another program. @returns how to end each */
async function occupyWalSenders(agent: TestAgent, count: number): Promise<(() => Promise<void>)[]> {
  const { username, password } = agent.secrets().replication;
  const clients = Array.from({ length: count }, () => {
    const options = { host: "127.0.0.1", port: agent.port, user: username, password, replication: "true" };
    return new pg.Client(options);
  });
  for (const client of clients) client.on("error", () => undefined);
  await Promise.all(clients.map((client) => client.connect()));
  return clients.map((client) => () => client.end());
}

describe("an agent that cannot begin", () => {
  test("names every mistake of its node file with its place, and ends with 78", async () => {
    reportOnFailure();
    const agent = await lab.prepare({ cluster: "typo", node: "db1" });
    agent.rewrite({ data_dri: "/nowhere", postgresql: { port: "many" }, api: { lisen: "127.0.0.1" } });
    agent.start();
    const { code, log } = await agent.exit();
    expect(code).toBe(78);
    expect(log).toContain("[CONFIG_INVALID]");
    expect(log).toMatch(/node\.yml:\d+:\d+ +data_dri +.*did you mean data_dir/);
    expect(log).toMatch(/node\.yml:\d+:\d+ +api\.lisen +.*did you mean (api\.)?listen/);
    expect(log).toMatch(/node\.yml:\d+:\d+ +postgresql\.port/);
    expect(readdirSync(join(agent.config, "..")).sort()).toEqual(["agent.log", "node.yml"]);
    expect(await etcd.ctl("get", "--prefix", "--keys-only", "/service/typo/")).toBe("");
  });

  test("without PostgreSQL's programs says where it looked, and ends with 78", async () => {
    const empty = join(lab.dir, "no-programs");
    mkdirSync(empty);
    const agent = await lab.agent({ cluster: "bare", node: "db1", file: { bin_dir: empty } });
    const { code, log } = await agent.exit();
    expect(code).toBe(78);
    expect(log).toContain("[BINARIES_MISSING]");
    expect(log).toContain(empty);
    expect(log).toMatch(/^ {2}next {4}\S/m);
  });

  test("whose API port is taken says by which setting it may have another, and ends", async () => {
    const agent = await lab.prepare({ cluster: "porta", node: "db1" });
    const release = await occupy(Number(new URL(agent.api).port));
    agent.start();
    const { code, log } = await agent.exit();
    await release();
    expect(code).toBe(1);
    expect(log).toContain("[PORT_OCCUPIED]");
    expect(log).toContain("api.port");
    expect(log).toMatch(/^ {2}next {4}\S/m);
  });

  test("goes on trying while the DCS does not answer, with its API up, and begins when it does", async () => {
    reportOnFailure();
    const relay = await startRelay(Number(new URL(etcd.endpoints[0] ?? "").port));
    await relay.set("refuse");
    try {
      const agent = await lab.agent({
        cluster: "late",
        node: "db1",
        file: { dcs: { etcd: [`127.0.0.1:${relay.port}`] } },
      });
      const status = await waitFor(() => agent.status(), { timeoutMs: 20_000, what: "the API answers" });
      expect(status).toMatchObject({ health: "down", dcs_reachable: false, leader: null });
      expect(status.attention.join("\n")).toContain("the DCS cannot be reached");
      expect((await agent.request("GET", "/primary")).status).toBe(503);
      expect((await agent.request("GET", "/liveness")).status).toBe(200);
      await relay.set("open");
      await agent.reaches("running");
      expect(await agent.status()).toMatchObject({ health: "ok", dcs_reachable: true, leader: "db1" });
      await agent.stop();
    } finally {
      await relay.stop();
    }
  });
});

describe("beside a running node", () => {
  let shop: TestAgent;
  beforeAll(async () => {
    shop = await lab.agent({ cluster: "shop", node: "db1" });
    await shop.reaches("running").catch((error: unknown) => {
      throw new Error(`${String(error)}\n${lab.report()}`);
    });
    await shop.sql("create table kept as select generate_series(1, 1000) as n");
  });

  /** Nothing that happened to the others has touched the node that was there first. */
  const unharmed = async (): Promise<void> => {
    expect(isAlive(shop.process().pid)).toBe(true);
    expect(await shop.self()).toMatchObject({
      role: "primary",
      state: "running",
      timeline: 1,
      problem: null,
    });
    expect(await shop.sql("select count(*)::int as n from kept")).toEqual([{ n: 1000 }]);
  };

  test("a second agent with the same node name is refused while the first lives", async () => {
    reportOnFailure();
    const other = await lab.prepare({ cluster: "shop", node: "db1b" });
    other.rewrite({ node: "db1" });
    other.start();
    const { code, log } = await other.exit();
    expect(code).toBe(78);
    expect(log).toContain("[NODE_NAME_IN_USE]");
    expect(log).toContain(shop.api);
    expect(log).toMatch(/^ {2}next {4}\S/m);
    expect(() => statSync(other.dataDir)).toThrow(/ENOENT/);
    await unharmed();
  });

  test("a second agent on the same state directory is refused", async () => {
    const other = await lab.agent({ cluster: "shop", node: "twin", stateDir: shop.stateDir });
    const { code, log } = await other.exit();
    expect(code).toBe(78);
    expect(log).toContain("[AGENT_ALREADY_RUNNING]");
    expect(log).toContain(String(shop.process().pid));
    expect(log).toMatch(/^ {2}next {4}\S/m);
    await unharmed();
  });

  const cases: readonly { name: string; code: string; says: RegExp; prepare: (dataDir: string) => void }[] = [
    {
      name: "holds files of somebody else",
      code: "DATA_DIR_NOT_EMPTY",
      says: /letters\.txt/,
      prepare: (dataDir) => {
        mkdirSync(dataDir, { mode: 0o700 });
        writeFileSync(join(dataDir, "letters.txt"), "dear reader");
      },
    },
    {
      name: "is of another major version",
      code: "DATA_DIR_WRONG_VERSION",
      says: /14/,
      prepare: (dataDir) => {
        initdb(dataDir);
        writeFileSync(join(dataDir, "PG_VERSION"), "14\n");
      },
    },
    {
      name: "cannot be written",
      code: "DATA_DIR_NOT_WRITABLE",
      says: /permission/i,
      prepare: (dataDir) => {
        mkdirSync(dataDir, { mode: 0o700 });
        chmodSync(dataDir, 0o500);
      },
    },
    {
      name: "belongs to another cluster",
      code: "DATA_DIR_FOREIGN_CLUSTER",
      says: /system identifier/,
      prepare: initdb,
    },
  ];
  for (const { name, code, says, prepare } of cases)
    test(`a data directory that ${name} is left alone, and said to be so`, async () => {
      reportOnFailure();
      const agent = await lab.prepare({
        cluster: "shop",
        node: code.toLowerCase().replaceAll("_", "-"),
        file: { bin_dir: binDir },
      });
      prepare(agent.dataDir);
      const before = picture(agent.dataDir);
      agent.start();
      const problem = await agent.hasProblem(code);
      expect(`${problem.message} ${problem.detail ?? ""}`).toMatch(says);
      expect(problem.hint).toMatch(/\S/);
      expect(await agent.self()).toMatchObject({ state: "failed" });
      const shown = await shop.cli("status");
      expect(shown.stdout.replaceAll(/\s+/g, " ")).toContain(problem.message);
      const asked = performance.now();
      await agent.stop();
      expect(performance.now() - asked).toBeLessThan(10_000);
      expect(picture(agent.dataDir)).toBe(before);
      await unharmed();
    });

  test("a data directory of another user is left alone, and said to be so", async () => {
    reportOnFailure();
    const agent = await lab.agent({
      cluster: "shop",
      node: "owner",
      file: { data_dir: "/usr/share/doc", bin_dir: binDir },
    });
    const problem = await agent.hasProblem("DATA_DIR_WRONG_OWNER");
    expect(problem.detail).toContain("user number 0");
    expect(problem.hint).toMatch(/\S/);
    await agent.stop();
    await unharmed();
  });

  test("an occupied PostgreSQL port is reported, and the node comes up when it is free", async () => {
    reportOnFailure();
    const agent = await lab.prepare({ cluster: "shop", node: "port" });
    const release = await occupy(agent.port);
    agent.start();
    const problem = await agent.hasProblem("PORT_OCCUPIED", 60_000);
    expect(problem.message).toContain(String(agent.port));
    expect(problem.hint).toMatch(/\S/);
    await release();
    await agent.reaches("streaming", 60_000);
    await agent.stop();
    await unharmed();
  });
});

test("of two agents with one name that begin at the same moment, one makes the cluster and the other is refused", async () => {
  reportOnFailure();
  const one = await lab.prepare({ cluster: "twins", node: "db1" });
  const other = await lab.prepare({ cluster: "twins", node: "db1b" });
  other.rewrite({ node: "db1" });
  one.start();
  other.start();
  const loser = await Promise.race([one, other].map((agent) => agent.exit().then(() => agent)));
  const winner = loser === one ? other : one;
  expect(await loser.exit()).toMatchObject({ code: 78 });
  expect(loser.log()).toContain("[NODE_NAME_IN_USE]");
  await winner.reaches("running");
  expect(await winner.status()).toMatchObject({ leader: "db1", token: 1, timeline: 1 });
  expect(() => statSync(loser.dataDir)).toThrow(/ENOENT/);
  await winner.stop();
});

describe("a source without room", () => {
  test("for WAL senders or slots is named as the reason, and the copy is made when there is room", async () => {
    reportOnFailure();
    const first = await lab.agent({
      cluster: "tight",
      node: "db1",
      settings: {
        reclone: { attempts: 2, wait: "1s", max_wait: "2s" },
        postgresql: { parameters: { max_wal_senders: 3, max_replication_slots: 2 } },
      },
    });
    await first.reaches("running");
    await first.sql(
      "select pg_create_physical_replication_slot('theirs_1'), pg_create_physical_replication_slot('theirs_2')",
    );
    const second = await lab.agent({ cluster: "tight", node: "db2" });
    const slots = await second.hasProblem("TOO_FEW_SLOTS");
    expect(slots.hint).toContain("max_replication_slots");
    const endings = await occupyWalSenders(first, 3);
    await first.sql("select pg_drop_replication_slot('theirs_1'), pg_drop_replication_slot('theirs_2')");
    const senders = await second.hasProblem("TOO_FEW_WALSENDERS");
    expect(senders.hint).toContain("max_wal_senders");
    expect(() => statSync(second.dataDir)).toThrow(/ENOENT/);
    for (const end of endings) await end();
    await second.reaches("streaming", 60_000);
    await second.stop();
    await first.stop();
  });
});
