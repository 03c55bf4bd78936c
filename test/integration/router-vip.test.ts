import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeHostCluster, type HostCluster } from "../support/host-cluster.ts";
import { pause, waitFor, type TestProcess } from "../support/process.ts";

const four = "10.77.0.100";
const six = "fd77::100";
const withLeader = "10.77.0.101";
const client = join(import.meta.dirname, "../support/writing-client.mjs");
const hostsOfRouters = ["db1", "db2"] as const;

describe("a virtual address on real hosts", () => {
  let cluster: HostCluster;
  const routers = new Map<string, TestProcess>();
  const sampled = { four: 0, six: 0, withLeader: 0 };
  let sampling = true;
  let sampler: Promise<void>;

  const notes = (host: string): string[] => {
    const file = join(cluster.dir, `notes-${host}`);
    return existsSync(file) ? readFileSync(file, "utf8").trim().split("\n") : [];
  };

  function notify(host: string, occasion: string): { command: string[] } {
    const text = `echo $PGHERD_EVENT $PGHERD_VIP_ADDRESS >> ${join(cluster.dir, `notes-${host}`)}`;
    return { command: ["sh", "-c", `: ${occasion}; ${text}`] };
  }

  async function start(host: string, preempt = false): Promise<void> {
    const all = { gained: notify(host, "gained"), lost: notify(host, "lost"), fault: notify(host, "fault") };
    const vip = (address: string, bind = "router"): Record<string, unknown> => ({
      address,
      interface: "eth0",
      bind,
      priority: host === "db1" ? 150 : 100,
      preempt,
      notify: all,
    });
    routers.set(
      host,
      await cluster.startRouter(host, {
        vip: [vip(`${four}/24`), vip(`${six}/128`), vip(`${withLeader}/32`, "leader")],
      }),
    );
  }

  const holders = async (address: string): Promise<string[]> => {
    const found: string[] = [];
    const looks = await cluster.hosts.haveAddress(hostsOfRouters, address);
    looks.forEach((has, index) => {
      if (has) found.push(hostsOfRouters[index] ?? "");
    });
    return found;
  };
  const onlyHolder = (address: string, host: string, timeoutMs = 20_000): Promise<true> =>
    waitFor(async () => (await holders(address)).join() === host, {
      timeoutMs,
      what: `${address} on ${host}`,
    });

  /** Rows are acknowledged anew through the address. */
  async function writesGoOn(writer: TestProcess): Promise<void> {
    const count = (): number => writer.output().match(/^row /gm)?.length ?? 0;
    const before = count();
    await waitFor(() => count() > before + 5, {
      timeoutMs: 30_000,
      what: "writes go on through the address",
    });
  }

  beforeAll(async () => {
    cluster = await makeHostCluster();
    const leader = await cluster.leader();
    await cluster.sql(cluster.far, cluster.hosts.four(leader), 5432, "create table written (id int)");
    // Seen on one host before and after it was seen on the other: it was on both.
    const both = async (address: string): Promise<boolean> => {
      const looks = await cluster.hosts.haveAddress(["db1", "db2", "db1", "db2"], address);
      return (looks[0] && looks[1] && looks[2]) === true || (looks[1] && looks[2] && looks[3]) === true;
    };
    sampler = (async (): Promise<void> => {
      while (sampling) {
        if (await both(four)) sampled.four += 1;
        if (await both(six)) sampled.six += 1;
        if (await both(withLeader)) sampled.withLeader += 1;
        await pause(10);
      }
    })();
  });

  afterAll(async () => {
    sampling = false;
    await sampler;
    await cluster.remove();
  });

  it("goes to the router of the higher priority, and clients elsewhere reach the primary through it", async () => {
    await start("db1");
    await start("db2");
    for (const address of [four, six]) {
      await onlyHolder(address, "db1");
      const answer = await cluster.sql(cluster.app, address, 5000, "select pg_is_in_recovery()");
      expect(answer).toBe("f");
    }
    for (const address of [four, six])
      await waitFor(() => notes("db1").includes(`vip_gained ${address}`), {
        timeoutMs: 10_000,
        what: `the gain of ${address} was notified`,
      });
  });

  it("a killed router's address moves while a client writes; its own return takes nothing back", async () => {
    const { hosts, app } = cluster;
    // So the second host knows the client as a neighbour.
    await cluster.sql(app, hosts.six("db2"), 5000, "select 1");
    const writer = hosts.start(app, [process.execPath, client, four, "5000"], { env: cluster.login });
    try {
      await writesGoOn(writer);
      routers.get("db1")?.signal("SIGKILL");
      await onlyHolder(six, "db2");
      // As if the client had missed the kernel's advertisement to all nodes: it is told again, by itself.
      const wrong = ["lladdr", "02:00:00:00:00:99", "nud", "stale", "dev", "eth0"];
      await hosts.run(app, ["ip", "-6", "neighbour", "replace", six, ...wrong]);
      const hardware = (await hosts.run("db2", ["cat", "/sys/class/net/eth0/address"])).stdout.trim();
      const entry = ["ip", "-6", "neighbour", "show", six, "dev", "eth0"];
      await waitFor(async () => (await hosts.run(app, entry)).stdout.includes(hardware), {
        timeoutMs: 15_000,
        what: "the client's neighbour entry is right again",
      });
      await onlyHolder(four, "db2");
      await writesGoOn(writer);
      expect(await cluster.sql(cluster.app, six, 5000, "select 1")).toBe("1");
      expect(notes("db2")).toContain(`vip_gained ${four}`);
      await start("db1");
      await pause(5000);
      expect(await holders(four)).toEqual(["db2"]);
      await writesGoOn(writer);
    } finally {
      await writer.stop();
    }
  });

  it("a frozen router's address moves, and stays away from it when it goes on", async () => {
    const writer = cluster.hosts.start(cluster.app, [process.execPath, client, four, "5000"], {
      env: cluster.login,
    });
    try {
      await writesGoOn(writer);
      routers.get("db2")?.signal("SIGSTOP");
      await onlyHolder(four, "db1");
      await writesGoOn(writer);
      routers.get("db2")?.signal("SIGCONT");
      await waitFor(() => notes("db2").includes(`vip_lost ${four}`), {
        timeoutMs: 10_000,
        what: "the frozen router has noticed that it lost the address",
      });
      expect(await holders(four)).toEqual(["db1"]);
      await writesGoOn(writer);
    } finally {
      await writer.stop();
    }
  });

  it("a host on which everything stands still loses it by its own kernel", async () => {
    const { stdout } = await cluster.hosts.run("db1", ["ip", "netns", "pids", "db1"]);
    const pids = stdout.trim().split("\n").map(Number);
    const every = (name: NodeJS.Signals): void => {
      for (const pid of pids)
        try {
          process.kill(pid, name);
        } catch {
          // ended meanwhile
        }
    };
    every("SIGSTOP");
    try {
      await onlyHolder(four, "db2");
    } finally {
      every("SIGCONT");
    }
    await pause(2000);
    expect(await holders(four)).toEqual(["db2"]);
  });

  it("a stopped router hands over at once, and one that wants it back gets it", async () => {
    await routers.get("db1")?.stop(20_000);
    await start("db1", true);
    await onlyHolder(four, "db1");
    await waitFor(() => notes("db2").at(-1)?.startsWith("vip_lost") === true, {
      timeoutMs: 10_000,
      what: "the loss was notified",
    });
    await routers.get("db1")?.stop(20_000);
    await onlyHolder(four, "db2");
    expect(await holders(four)).toEqual(["db2"]);
  });

  it("one that is bound to the leader follows a switchover", async () => {
    await start("db1");
    const before = await cluster.leader();
    await onlyHolder(withLeader, before);
    await cluster.pgherd("switchover", "--yes");
    const after = await cluster.leader();
    expect(after).not.toBe(before);
    await onlyHolder(withLeader, after);
    expect(await cluster.sql(cluster.app, withLeader, 5432, "select pg_is_in_recovery()")).toBe("f");
    // The other kind stayed where it was.
    expect(await holders(four)).toEqual(["db2"]);
  });

  it("is given up where the cable is out", async () => {
    await cluster.hosts.cable("db2", "out");
    await onlyHolder(four, "db1", 30_000);
    await cluster.hosts.cable("db2", "in");
  });

  it("stays where it is when its router is replaced by a new process", async () => {
    await onlyHolder(four, "db1");
    const old = routers.get("db1");
    const writer = cluster.hosts.start(cluster.app, [process.execPath, client, four, "5000"], {
      env: cluster.login,
    });
    try {
      await writesGoOn(writer);
      const lost = (): number => notes("db1").filter((note) => note.startsWith("vip_lost")).length;
      const before = lost();
      old?.signal("SIGUSR2");
      await waitFor(() => old?.output().includes("router.handed_over") === true, {
        timeoutMs: 30_000,
        what: "the new process has taken over",
      });
      // Longer than the lock lives without the new process.
      const until = performance.now() + 8_000;
      while (performance.now() < until) expect(await holders(four), old?.output()).toEqual(["db1"]);
      await writesGoOn(writer);
      expect(writer.output()).not.toContain("failure");
      expect(lost()).toBe(before);
      await writer.stop();
      await old?.ended;
      expect(await holders(four)).toEqual(["db1"]);
      expect(await cluster.sql(cluster.app, four, 5000, "select 1")).toBe("1");
    } finally {
      await writer.stop();
    }
  });

  it("was never on two hosts at once", () => {
    expect(sampled).toEqual({ four: 0, six: 0, withLeader: 0 });
  });
});
