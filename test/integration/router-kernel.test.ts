import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeHostCluster, type HostCluster } from "../support/host-cluster.ts";
import { pause, processesUnder, signal, waitFor, type TestProcess } from "../support/process.ts";

const listener = { target: "primary", path: "kernel", port: 5000, kernel: { sysctls: "set" } };
const where = "select host(inet_server_addr()) || ' ' || pg_is_in_recovery()";

/** A client that waits for its answer for long, to see whether it is cut. */
const long = "select pg_sleep(120)";

describe("a listener in the kernel, on a host between clients and servers", () => {
  let cluster: HostCluster;
  let router: TestProcess;
  /** The host of the router: neither a server nor a client elsewhere. */
  const here = "far";

  const start = async (): Promise<void> => {
    router = await cluster.startRouter(here, { listeners: { primary: listener } });
  };
  const ask = (from: string, address: string): Promise<string> => cluster.sql(from, address, 5000, where);
  const refused = (from: string, address: string): Promise<true> =>
    waitFor(async () => (await ask(from, address).catch(String)).includes("Connection refused"), {
      timeoutMs: 20_000,
      what: `${address} refuses ${from}`,
    });
  const answers = (from: string, address: string, server: string): Promise<true> =>
    waitFor(async () => (await ask(from, address)) === `${server} false`, {
      timeoutMs: 30_000,
      what: `${server} answers ${from} at ${address}`,
    });
  const rules = async (): Promise<string> =>
    (await cluster.hosts.run(here, ["nft", "list", "ruleset"])).stdout;

  beforeAll(async () => {
    cluster = await makeHostCluster();
    await start();
  });
  afterAll(async () => {
    await cluster.remove();
  });

  it("takes clients of this host and of others to the primary, over IPv4 and IPv6", async () => {
    const { hosts, app } = cluster;
    const leader = await cluster.leader();
    await answers(app, hosts.four(here), hosts.four(leader));
    await answers(app, hosts.six(here), hosts.six(leader));
    await answers(here, hosts.four(here), hosts.four(leader));
    await answers(here, hosts.six(here), hosts.six(leader));
    await answers(here, "127.0.0.1", hosts.four(leader));
    // Nothing can leave this host from ::1; it must not wait for ever.
    await refused(here, "::1");
  });

  it("admits by address: whom no rule admits is refused at once", async () => {
    const { hosts, app } = cluster;
    await router.stop(20_000);
    const rule = { database: ["all", "replication"] };
    const rules = [
      { ...rule, address: hosts.six(app), method: "reject" },
      { ...rule, address: hosts.four(app) },
    ];
    router = await cluster.startRouter(here, { listeners: { primary: listener }, access: rules });
    await answers(app, hosts.four(here), hosts.four(await cluster.leader()));
    await refused(app, hosts.six(here));
    await refused(here, hosts.four(here));
    await refused(here, "127.0.0.1");
    await router.stop(20_000);
    const admitting = [{ ...rule, address: [hosts.six(app), hosts.four(here)] }];
    router = await cluster.startRouter(here, { listeners: { primary: listener }, access: admitting });
    await answers(app, hosts.six(here), hosts.six(await cluster.leader()));
    await answers(here, hosts.four(here), hosts.four(await cluster.leader()));
    await refused(app, hosts.four(here));
    await router.stop(20_000);
    await start();
    await answers(app, hosts.four(here), hosts.four(await cluster.leader()));
  });

  it("is whole again when somebody flushes the rules, or changes one", async () => {
    const { hosts, app } = cluster;
    const leader = await cluster.leader();
    await hosts.run(here, ["nft", "flush", "ruleset"]);
    await answers(app, hosts.four(here), hosts.four(leader));
    await hosts.run(here, ["nft", "flush", "table", "inet", "pgherd_router_far_primary"]);
    await answers(app, hosts.four(here), hosts.four(leader));
    // Something else under the same name is replaced.
    await hosts.run(here, ["nft", "-f", "-"], {
      input:
        "delete table inet pgherd_router_far_primary\nadd table inet pgherd_router_far_primary\nadd set inet pgherd_router_far_primary four { type ipv4_addr; }\n",
    });
    await answers(app, hosts.four(here), hosts.four(leader));
  });

  it("passes nothing new while the router is frozen or dead, and keeps what is connected", async () => {
    const { hosts, app } = cluster;
    const leader = await cluster.leader();
    const end = join(cluster.dir, "end");
    const held = hosts.start(app, ["sh", "-c", talkUntil(end, hosts.four(here), "still here")], {
      env: cluster.login,
    });
    await waitFor(() => held.output().includes("before"), { timeoutMs: 20_000, what: "the session runs" });
    router.signal("SIGSTOP");
    await refused(app, hosts.four(here));
    await refused(here, "127.0.0.1");
    router.signal("SIGCONT");
    await answers(app, hosts.four(here), hosts.four(leader));
    router.signal("SIGKILL");
    await refused(app, hosts.four(here));
    await start();
    await answers(app, hosts.four(here), hosts.four(leader));
    writeFileSync(end, "");
    expect(await held.ended).toMatchObject({ code: 0 });
    expect(held.output()).toContain("still here");
  });

  it("a new process takes its place: nobody is refused meanwhile, nobody is cut", async () => {
    const { hosts, app } = cluster;
    const leader = await cluster.leader();
    await answers(app, hosts.four(here), hosts.four(leader));
    const end = join(cluster.dir, "end-of-upgrade");
    const held = hosts.start(app, ["sh", "-c", talkUntil(end, hosts.four(here), "still here")], {
      env: cluster.login,
    });
    await waitFor(() => held.output().includes("before"), { timeoutMs: 20_000, what: "the session runs" });
    const said = { ended: false };
    router.signal("SIGUSR2");
    void router.ended.then(() => (said.ended = true));
    // From before the new process exists until after the old one, which has no clients of its own, has ended.
    const until = performance.now() + 60_000;
    while (!said.ended) {
      expect(await ask(app, hosts.four(here))).toBe(`${hosts.four(leader)} false`);
      expect(await ask(here, "127.0.0.1")).toBe(`${hosts.four(leader)} false`);
      expect(performance.now(), router.output()).toBeLessThan(until);
    }
    expect(router.output()).toContain("router.handed_over");
    writeFileSync(end, "");
    expect(await held.ended).toMatchObject({ code: 0 });
    expect(held.output()).toContain("still here");
    // The rules live on longer than any of them would without somebody who renews it.
    await pause(8_000);
    expect(await ask(app, hosts.four(here))).toBe(`${hosts.four(leader)} false`);
    const [next = 0] = processesUnder(join(cluster.dir, here))
      .filter(({ command }) => command.includes("router") && command.includes("--config"))
      .map(({ pid }) => pid);
    signal(next, "SIGTERM");
    await refused(app, hosts.four(here));
    expect(await rules()).toBe("");
    await start();
  });

  it("refuses to start without the capability, and says what is missing; or passes the bytes itself", async () => {
    const { hosts, far } = cluster;
    const free = { admin: { port: 6433 }, metrics: { port: 9188 } };
    const other = { ...listener, port: 5005 };
    await expect(
      cluster.startRouter("db1", { ...free, listeners: { primary: other } }, "user"),
    ).rejects.toThrow(/CAP_NET_ADMIN/);
    const instead = { ...other, kernel: { fallback: "stream" } };
    const plain = await cluster.startRouter("db1", { listeners: { primary: instead } }, "user");
    expect(await cluster.sql(far, hosts.four("db1"), 5005, where)).toMatch(/ false$/);
    await plain.stop();
  });

  it("follows a failover: new connections at once, old ones are cut", async () => {
    const { hosts, app } = cluster;
    const old = await cluster.leader();
    const local = hosts.start(here, psql("127.0.0.1", long), { env: cluster.login });
    // One that says something before and after; what only waits for an answer of a dead host is not told by anybody.
    const go = join(cluster.dir, "go");
    const remote = hosts.start(app, ["sh", "-c", talkUntil(go, hosts.four(here), "after")], {
      env: cluster.login,
    });
    await waitFor(() => remote.output().includes("before"), {
      timeoutMs: 20_000,
      what: "the remote session runs",
    });
    await waitFor(() => sleeping(), { timeoutMs: 20_000, what: "the local session runs" });
    await hosts.cable(old, "out");
    const next = await cluster.leader();
    expect(next).not.toBe(old);
    await answers(app, hosts.four(here), hosts.four(next));
    await answers(here, "127.0.0.1", hosts.four(next));
    expect(await local.ended).not.toMatchObject({ code: 0 });
    writeFileSync(go, "");
    expect(await remote.ended).not.toMatchObject({ code: 0 });
    expect(remote.output()).not.toContain("after\n");
  });

  it("leaves nothing behind when it is stopped", async () => {
    const { hosts, app } = cluster;
    const forwards = async (): Promise<string> =>
      (await hosts.run(here, ["cat", "/proc/sys/net/ipv4/ip_forward"])).stdout.trim();
    await router.stop(20_000);
    expect(await rules()).toBe("");
    // The router that was killed could put nothing back.
    await hosts.run(here, ["sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"]);
    await start();
    await answers(app, hosts.four(here), hosts.four(await cluster.leader()));
    expect(await forwards()).toBe("1");
    await router.stop(20_000);
    expect(await forwards()).toBe("0");
    expect(await rules()).toBe("");
    await refused(app, hosts.four(here));
  });

  function psql(address: string, ...statements: string[]): string[] {
    const commands = statements.flatMap((each) => ["-c", each]);
    return [cluster.psql, "-XAtq", "-h", address, "-p", "5000", ...commands];
  }

  /** A client that says something, and something else once there is the file. */
  function talkUntil(file: string, address: string, last: string): string {
    const [program = "", ...args] = psql(address);
    return `(echo "select 'before';"; while [ ! -e ${file} ]; do sleep 0.1; done; echo "select '${last}';") | ${program} ${args.join(" ")}`;
  }

  async function sleeping(): Promise<boolean> {
    const leader = await cluster.leader();
    const text = `select count(*) from pg_stat_activity where query = '${long}' and state = 'active'`;
    return (await cluster.sql(cluster.app, cluster.hosts.four(leader), 5432, text)) !== "0";
  }
});
