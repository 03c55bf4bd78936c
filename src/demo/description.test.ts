import { describe, expect, it } from "vitest";
import { checkNodeFile } from "../config/node-file.ts";
import type { DemoFile } from "./demo-file.ts";
import { connectionUrl, describe as describeDemo, introduction, shellLine } from "./description.ts";
import { nodeFile, passfile } from "./node-file.ts";
import { missingUntilHealthy } from "./agents.ts";

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
};

describe("the description of a demo", () => {
  const described = describeDemo(demo, (each) => ({ agent: each.port, guard: null, postmaster: 1 }), [null]);

  it("has exactly the keys that programs rely on", () => {
    expect(Object.keys(described)).toEqual(["cluster", "dir", "endpoints", "nodes", "dcs"]);
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
      () => ({ agent: null, guard: null, postmaster: null }),
      [],
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
