import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, onTestFailed, test } from "vitest";
import { DiskChild } from "../../src/postgres/disk-child.ts";
import type { DiskFacts, DiskWatch } from "../../src/postgres/disk.ts";
import { watchDisk } from "../../src/postgres/disk-watch.ts";
import { systemClock } from "../../src/system/clock.ts";
import { systemTimers } from "../../src/system/timers.ts";
import { agentLab, type TestAgent } from "../support/agents.ts";
import { startEtcd, type TestEtcd } from "../support/etcd.ts";
import { figure } from "../support/cluster.ts";
import { binDir } from "../support/postgres.ts";
import { makeTempDir, pause, processesUnder, signal, waitFor, type TempDir } from "../support/process.ts";
import { testVolume, type TestVolume } from "../support/volume.ts";

const megabyte = 1_048_576;

describe("the watch over a disk", () => {
  let temp: TempDir;
  let watch: DiskWatch | null = null;
  beforeAll(() => {
    temp = makeTempDir("disk");
  });
  afterEach(() => watch?.close());
  afterAll(() => temp.remove());

  function begin(reserve: { bytes: number }): DiskWatch {
    const stateDir = join(temp.path, "state");
    mkdirSync(join(temp.path, "data", "pg_wal"), { recursive: true });
    mkdirSync(stateDir, { recursive: true });
    watch = watchDisk({
      dataDir: join(temp.path, "data"),
      stateDir,
      reserveBytes: () => reserve.bytes,
      clock: systemClock,
      timers: systemTimers,
      log: () => undefined,
    });
    watch.every(100);
    return watch;
  }

  const becomes = (disk: DiskWatch, what: Partial<DiskFacts>): Promise<unknown> =>
    waitFor(
      () => Object.entries(what).every(([key, value]) => disk.facts()[key as keyof DiskFacts] === value),
      {
        timeoutMs: 10_000,
        what: JSON.stringify(what),
      },
    );

  test("writes, tells the room, and keeps a reserve as long as it is wanted", async () => {
    const reserve = { bytes: 4 * megabyte };
    const disk = begin(reserve);
    await becomes(disk, { kind: "ok", reserve: "held" });
    const { freeBytes, probeMs, problem } = disk.facts();
    expect(freeBytes).toBeGreaterThan(64 * megabyte);
    expect(probeMs).toBeGreaterThan(0);
    expect(problem).toBeNull();
    reserve.bytes = 0;
    await becomes(disk, { reserve: "none" });
    reserve.bytes = 4 * megabyte;
    await becomes(disk, { reserve: "held" });
    expect(await disk.freeReserve()).toBe(true);
  });

  test("a write that does not end is seen by its age; one that ends late is forgiven; one is under way at most", async () => {
    const disk = begin({ bytes: 0 });
    await becomes(disk, { kind: "ok" });
    const changes: string[] = [];
    disk.onChange(() => changes.push(disk.facts().kind));
    const children = probes();
    expect(children).toHaveLength(1);
    signal(children[0] ?? 0, "SIGSTOP");
    await becomes(disk, { kind: "stalled" });
    await waitFor(() => disk.facts().forMs > 2500, { timeoutMs: 20_000, what: "its age grows" });
    expect(probes()).toEqual(children);
    signal(children[0] ?? 0, "SIGCONT");
    await becomes(disk, { kind: "ok" });
    expect(changes).toEqual(["stalled", "ok"]);
  });

  test("a probe that dies is replaced", async () => {
    const disk = begin({ bytes: 0 });
    await becomes(disk, { kind: "ok" });
    const [first = 0] = probes();
    signal(first, "SIGKILL");
    await waitFor(() => probes().some((pid) => pid !== first), {
      timeoutMs: 20_000,
      what: "another probe runs",
    });
    await becomes(disk, { kind: "ok" });
  });

  test("a directory that is not there is unknown, not a broken disk", async () => {
    const child = new DiskChild();
    try {
      const answer = await new Promise((resolve) =>
        child.ask({ file: join(temp.path, "nowhere", "probe"), reserve: "" }, resolve),
      );
      expect(answer).toMatchObject({ ok: false, text: expect.stringMatching(/No such file/) as unknown });
    } finally {
      child.close();
    }
  });
});

/** The probes that this process has started. */
function probes(): number[] {
  return probesOf(process.pid);
}

function probesOf(parent: number): number[] {
  return processesUnder("pgherd-disk-probe")
    .filter((facts) => facts.parent === parent)
    .map((facts) => facts.pid);
}

describe("an agent on a small volume", () => {
  let etcd: TestEtcd;
  const lab = agentLab("gray", () => etcd.endpoints);
  beforeAll(async () => {
    etcd = await startEtcd();
  });
  afterAll(async () => {
    await lab.remove();
    await etcd.stop();
  });

  async function onVolume(
    cluster: string,
    megabytes: number,
  ): Promise<{ agent: TestAgent; volume: TestVolume }> {
    const dir = join(lab.dir, `${cluster}-volume`);
    mkdirSync(dir, { mode: 0o700 });
    const volume = testVolume(dir, megabytes);
    const agent = await lab.agent({
      cluster,
      node: "db1",
      within: volume.within,
      file: {
        bin_dir: binDir,
        data_dir: join(volume.path, "data"),
        bootstrap: {
          settings: {
            ttl: "5s",
            disk_reserve: "48MB",
            postgresql: {
              parameters: { max_wal_size: "48MB", min_wal_size: "32MB", shared_buffers: "16MB" },
            },
          },
        },
      },
    });
    await agent.reaches("running");
    return { agent, volume };
  }

  const happened = (agent: TestAgent, event: string): Promise<unknown> =>
    waitFor(async () => (await agent.events()).some((each) => each.event === event), {
      timeoutMs: 40_000,
      what: `the event ${event}`,
    });

  /** Takes all the room but so much. */
  const fill = (volume: TestVolume, leftMegabytes: number): Promise<string> =>
    volume.run(
      `free=$(df --output=avail -B1M "${volume.path}" | tail -1); fallocate -l "$((free - ${leftMegabytes}))M" "${volume.path}/filler"`,
    );

  test("WAL that has no room: the reserve lets PostgreSQL start again, nothing acknowledged is lost, and it is made anew when there is room", async () => {
    onTestFailed(() => void process.stderr.write(`${lab.report()}\n`));
    const { agent, volume } = await onVolume("full", 400);
    await agent.sql("create table rows (n int primary key)");
    // Nothing but WAL grows: it is kept for a slot that nobody reads.
    await agent.sql("select pg_create_physical_replication_slot('unread', true)");
    const reserve = (): Promise<boolean> =>
      volume.run(`ls "${volume.path}/data/pg_wal"`).then((names) => names.includes("pgherd.reserve"));
    await waitFor(reserve, { timeoutMs: 20_000, what: "the reserve is there" });
    await fill(volume, 40);
    let acknowledged = 0;
    const write = async (): Promise<boolean> => {
      try {
        await agent.sql(
          `insert into rows values (${acknowledged + 1});
           select pg_logical_emit_message(true, 'fill', repeat('x', 1000000)) from generate_series(1, 4)`,
        );
        acknowledged += 1;
        return true;
      } catch {
        return false;
      }
    };
    await waitFor(async () => !(await write()), { timeoutMs: 60_000, what: "PostgreSQL ends", everyMs: 1 });
    await happened(agent, "disk_reserve_freed");
    const [row] = await waitFor(() => agent.sql("select count(*)::int as rows from rows"), {
      timeoutMs: 30_000,
      what: "PostgreSQL answers again on the full disk",
    });
    expect(row?.["rows"]).toBeGreaterThanOrEqual(acknowledged);
    expect((await agent.self()).problem).toMatchObject({ code: "DISK_FULL" });
    expect(await reserve()).toBe(false); // and that stays a problem until there is room for it again
    await agent.sql("select pg_drop_replication_slot('unread')");
    await volume.run(`rm "${volume.path}/filler"`);
    await happened(agent, "problem_solved");
    await waitFor(write, { timeoutMs: 20_000, what: "it takes writes again" });
    await agent.reaches("running");
    await waitFor(reserve, { timeoutMs: 20_000, what: "the reserve is made again" });
    await agent.stop();
  });

  test("a full disk moves no primary; a read-only one does", async () => {
    onTestFailed(() => void process.stderr.write(`${lab.report()}\n`));
    const { agent, volume } = await onVolume("broken", 300);
    const standby = await lab.agent({ cluster: "broken", node: "db2", file: { bin_dir: binDir } });
    await standby.reaches("streaming");
    await fill(volume, 16);
    await agent.hasProblem("DISK_FULL");
    const status = await agent.status();
    expect(status).toMatchObject({ leader: "db1", health: "degraded" });
    expect(status.attention.join("\n")).toContain("data volume is full");
    await agent.sql("create table here (n int)");
    await pause(5000); // longer than any limit on the way to a handover
    expect((await agent.status()).leader).toBe("db1");
    await volume.run(`rm "${volume.path}/filler"`);
    await agent.reaches("running");
    // While PostgreSQL has files open the kernel refuses to remount the volume: first only what the probe writes is read-only.
    const probe = `"${volume.path}/data/pgsql_tmp.pgherd"`;
    const began = performance.now();
    await volume.run(`mount --bind ${probe} ${probe} && mount -o remount,bind,ro ${probe}`);
    await waitFor(async () => (await standby.status()).leader === "db2", {
      timeoutMs: 30_000,
      what: "db2 leads",
      everyMs: 20,
    });
    figure(`read-only file system: db2 led after ${Math.round(performance.now() - began)} ms`);
    await standby.sql("insert into here values (1)");
    await agent.hasProblem("DISK_READ_ONLY");
    await volume.run(`mount -o remount,ro "${volume.path}" && umount ${probe}`);
    await pause(3000); // a few rounds and a probe: it stays down without trying
    expect(await agent.self()).toMatchObject({ problem: { code: "DISK_READ_ONLY" } });
    expect((await agent.events()).filter((each) => each.event === "clone_started")).toEqual([]);
    await volume.run(`mount -o remount,rw "${volume.path}"`);
    await agent.reaches("streaming");
    await waitFor(async () => (await agent.sql("select n from here where n = 1")).length === 1, {
      timeoutMs: 10_000,
      what: "what was written meanwhile has arrived",
    });
    await standby.stop();
    await agent.stop();
  });
});
