import { describe, expect, it } from "vitest";
import { checkNodeFile } from "../config/node-file.ts";
import { checkRouterFile } from "../config/router-file.ts";
import type { DemoFile } from "./demo-file.ts";
import { connectionUrl, describe as describeDemo, introduction, shellLine } from "./description.ts";
import { nodeFile, passfile } from "./node-file.ts";
import { missingUntilHealthy } from "./agents.ts";
import { drawRouter, routerFile } from "./router.ts";

const node = (name: string, port: number): DemoFile["nodes"][number] => ({
  name,
  dir: `/srv/demo/${name}`,
  port,
  api: `http://127.0.0.1:${port + 1}`,
  config: `/srv/demo/${name}/node.yml`,
  data_dir: `/srv/demo/${name}/data`,
  state_dir: `/srv/demo/${name}/state`,
  log: `/srv/demo/${name}/agent.log`,
  supervisor: null,
});

const demo: DemoFile = {
  format: 1,
  cluster: "demo",
  dir: "/srv/demo",
  runAs: { user: "postgres", uid: 101, gid: 104, home: "/var/lib/postgresql" },
  program: { node: "/usr/bin/node", script: "/srv/demo/app/bin/pgherd", build: "" },
  settings: { ttl: 2, reclone: { attempts: 1 } },
  role: { name: "demo", database: "demo", password: "s:e\\c/r@t" },
  etcd: {
    program: "/usr/bin/etcd",
    token: "token",
    members: [
      {
        name: "etcd1",
        dir: "/srv/demo/etcd1",
        endpoint: "http://127.0.0.1:9001",
        peer: "http://127.0.0.1:9002",
        process: null,
      },
    ],
  },
  nodes: [node("db1", 7001), node("db2", 7003)],
  router: null,
  backup: null,
};

const withRouter: DemoFile = {
  ...demo,
  router: {
    name: "router",
    dir: "/srv/demo/router",
    ports: { primary: 5000, standby: 5001, admin: 6432, metrics: 9187 },
    config: "/srv/demo/router/router.yml",
    state_dir: "/srv/demo/router/state",
    log: "/srv/demo/router/router.log",
    process: null,
  },
};

describe("the description of a demo", () => {
  const described = describeDemo(demo, {
    of: (each) => ({ agent: each.port, guard: null, postmaster: 1 }),
    members: [null],
    router: null,
    backup: null,
  });

  it("has exactly the keys that programs rely on", () => {
    expect(Object.keys(described)).toEqual([
      "cluster",
      "dir",
      "endpoints",
      "nodes",
      "router",
      "backup",
      "dcs",
    ]);
    expect(Object.keys(described.nodes[0]!)).toEqual([
      "name",
      "postgres",
      "api",
      "data_dir",
      "config",
      "agent_pid",
      "guard_pid",
      "postmaster_pid",
      "agent_command",
    ]);
    expect(described.dcs).toEqual({ kind: "etcd", endpoints: ["http://127.0.0.1:9001"], pids: [null] });
  });

  it("gives URLs in which the password survives every character", () => {
    const url = new URL(described.nodes[0]!.postgres);
    expect([url.username, decodeURIComponent(url.password), url.host, url.pathname]).toEqual([
      "demo",
      "s:e\\c/r@t",
      "127.0.0.1:7001",
      "/demo",
    ]);
    expect(described.endpoints.primary).toMatch(
      /@127\.0\.0\.1:7001,127\.0\.0\.1:7003\/demo\?target_session_attrs=read-write$/,
    );
    expect(described.endpoints.standby).toMatch(/\?target_session_attrs=prefer-standby$/);
  });

  it("says how root starts an agent as the demo's user, and how everybody else does", () => {
    expect(described.nodes[1]!.agent_command).toBe(
      "setpriv --reuid=101 --regid=104 --clear-groups env HOME=/var/lib/postgresql USER=postgres " +
        "/usr/bin/node /srv/demo/app/bin/pgherd agent --config /srv/demo/db2/node.yml --supervised",
    );
    const own = describeDemo(
      { ...demo, runAs: null },
      { of: () => ({ agent: null, guard: null, postmaster: null }), members: [], router: null, backup: null },
    );
    expect(own.nodes[1]!.agent_command).toMatch(/^\/usr\/bin\/node .* --supervised$/);
  });

  it("shows people no password but the file that holds it", () => {
    const text = introduction(demo, "pgherd", "db1").join("\n");
    expect(text).not.toContain("s:e");
    expect(text).toContain("PGPASSFILE=/srv/demo/passfile psql 'postgresql://demo@127.0.0.1:7001");
    expect(text).toContain("pgherd demo kill db1 ");
    expect(text).toContain("pgherd switchover --to db2 ");
    expect(connectionUrl(demo, demo.nodes, null, false)).not.toContain("s:e");
  });

  it("leads to the router where there is one", () => {
    const pids = { of: () => ({ agent: 1, guard: 2, postmaster: 3 }), members: [4], router: 5, backup: null };
    const { endpoints, router, nodes } = describeDemo(withRouter, pids);
    expect([endpoints.primary, endpoints.standby].map((url) => new URL(url).host)).toEqual([
      "127.0.0.1:5000",
      "127.0.0.1:5001",
    ]);
    expect(new URL(nodes[0]!.postgres).host).toBe("127.0.0.1:7001");
    expect(router).toMatchObject({ pid: 5, http: "http://127.0.0.1:9187" });
    expect(new URL(router!.admin).pathname).toBe("/pgherd");
    expect(router!.command).toMatch(/pgherd router --config \/srv\/demo\/router\/router\.yml --supervised$/);
    const text = introduction(withRouter, "pgherd", "db1").join("\n");
    expect(text).toContain("psql 'postgresql://demo@127.0.0.1:5000/demo'");
    expect(text).not.toContain("s:e");
    expect(passfile(withRouter)).toContain("127.0.0.1:5000:*:demo:s\\:e");
  });

  it("quotes words for the shell", () => {
    expect(shellLine(["/a b/c", "it's", "plain-1.2:3"])).toBe(`'/a b/c' 'it'\\''s' plain-1.2:3`);
  });
});

describe("the files of a demo", () => {
  it("are node files without a problem, with the initial settings", () => {
    const { config, problems } = checkNodeFile(nodeFile(demo, demo.nodes[0]!), {});
    expect(problems).toEqual([]);
    expect(config?.node).toBe("db1");
    expect(config?.dataDir).toBe("/srv/demo/db1/data");
    expect(config?.postgresql.port).toBe(7001);
    expect(config?.api.port).toBe(7002);
  });

  it("give a router its usual ports as far as they are free", async () => {
    const drawn = [20_001, 20_002, 20_003, 20_004];
    const usual = await drawRouter("/srv/demo", drawn, (port) => Promise.resolve(port !== 6432));
    expect(usual.ports).toEqual({ primary: 5000, standby: 5001, admin: 20_003, metrics: 9187 });
    const beside = await drawRouter("/srv/demo", drawn, null);
    expect(Object.values(beside.ports)).toEqual(drawn);
  });

  it("include a router's file without a problem", () => {
    const { settings, problems } = checkRouterFile(routerFile(withRouter, withRouter.router!), {});
    expect(problems).toEqual([]);
    expect(settings?.listeners.map((each) => [each.name, each.target, each.port])).toEqual([
      ["primary", "primary", 5000],
      ["standby", "standby", 5001],
    ]);
    expect(settings?.admin.users).toEqual(["demo"]);
  });

  it("hold a password file in libpq's quoting", () => {
    expect(passfile(demo)).toBe(
      "127.0.0.1:7001:*:demo:s\\:e\\\\c/r@t\n127.0.0.1:7003:*:demo:s\\:e\\\\c/r@t\n",
    );
  });
});

describe("waiting for the cluster", () => {
  const seen = (name: string, role: string, state: string) => ({ name, role, state });
  const names = ["db1", "db2"];

  it.each([
    ["nothing answers", null, ["db1 starting", "db2 starting"]],
    [
      "a node is not in the cluster yet",
      { health: "ok" as const, leader: "db1", nodes: [seen("db1", "primary", "running")] },
      ["db2 starting"],
    ],
    [
      "a standby is being copied",
      {
        health: "degraded" as const,
        leader: "db1",
        nodes: [seen("db1", "primary", "running"), seen("db2", "standby", "cloning")],
      },
      ["db2 cloning"],
    ],
    [
      "nobody leads",
      {
        health: "down" as const,
        leader: null,
        nodes: [seen("db1", "primary", "running"), seen("db2", "standby", "streaming")],
      },
      ["a leader"],
    ],
    [
      "something else is wrong",
      {
        health: "degraded" as const,
        leader: "db1",
        nodes: [seen("db1", "primary", "running"), seen("db2", "standby", "streaming")],
      },
      ["health degraded"],
    ],
    [
      "all is well",
      {
        health: "ok" as const,
        leader: "db1",
        nodes: [seen("db1", "primary", "running"), seen("db2", "standby", "streaming")],
      },
      [],
    ],
  ])("says what is missing when %s", (_, status, missing) => {
    expect(missingUntilHealthy(status, names)).toEqual(missing);
  });
});
