import { beforeEach, describe, expect, it } from "vitest";
import { ManualTime } from "../../../test/support/manual-time.ts";
import { Fault } from "../../values/fault.ts";
import type { WallTime } from "../../values/time.ts";
import type { JobRequest } from "../base/job-protocol.ts";
import type { JobView } from "../service.ts";
import type { ChildEvents, StartChild } from "./child.ts";
import { JobQueue } from "./jobs.ts";

interface FakeChild {
  readonly args: readonly string[];
  readonly events: ChildEvents;
  readonly sent: object[];
  readonly signals: string[];
}

const base = (cluster: string): JobRequest => ({
  kind: "base",
  cluster,
  type: "auto",
  from: "auto",
  maxRate: null,
  checkpoint: "fast",
  label: null,
  reason: "schedule",
});
const result = {
  id: "20261121T120000-f1",
  kind: "full" as const,
  state: "waiting" as const,
  source: "db1",
  bytes: 10,
  storedBytes: 5,
  ms: 3,
  startLsn: "0/1",
  stopLsn: "0/2",
  corruptPages: 0,
};

describe("the queue of jobs", () => {
  let time: ManualTime;
  let children: FakeChild[];
  let ended: JobView[];
  let refusal: Fault | null;
  let takingOver: Promise<void>;
  let queue: JobQueue;

  beforeEach(() => {
    time = new ManualTime("2026-11-21T12:00:00.000Z" as WallTime);
    children = [];
    ended = [];
    refusal = null;
    takingOver = Promise.resolve();
    const start: StartChild = (args, events) => {
      const child: FakeChild = { args, events, sent: [], signals: [] };
      children.push(child);
      return {
        pid: 1000 + children.length,
        send: (message) => child.sent.push(message),
        kill: (signal) => child.signals.push(signal),
      };
    };
    queue = new JobQueue({
      configFile: "/etc/pgherd/backup.yml",
      limit: 2,
      start,
      clock: time,
      timers: time,
      random: { fraction: () => 0.5, uuid: () => "0123456789", secret: () => "" },
      log: () => undefined,
      before: () => (refusal === null ? Promise.resolve() : Promise.reject(refusal)),
      takeOver: () => takingOver,
      ended: (job) => ended.push(job),
    });
  });

  const settled = async (): Promise<void> => {
    for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
  };

  it("starts one process for a job, tells it the file and the job, and believes its word once it has ended", async () => {
    const { id } = queue.add(base("shop"), "schedule");
    await settled();
    expect(children[0]?.args).toEqual(["backup-job"]);
    expect(children[0]?.sent).toEqual([
      { kind: "start", id, config: "/etc/pgherd/backup.yml", job: base("shop") },
    ]);
    const progress = {
      step: "copying",
      doneBytes: 4,
      totalBytes: 10,
      rate: 2,
      secondsLeft: 3,
      storedBytes: 1,
      heldBackBy: null,
    };
    children[0]?.events.message({ kind: "progress", progress });
    expect(queue.get(id)).toMatchObject({ state: "running", pid: 1001, progress });
    children[0]?.events.message({ kind: "done", result });
    expect(queue.get(id).state).toBe("running");
    children[0]?.events.ended("exit code 0");
    await settled();
    expect(queue.get(id)).toMatchObject({ state: "done", result, fault: null, pid: null });
    expect(ended.map((job) => job.state)).toEqual(["done"]);
  });

  it("counts as done only once what it wrote was taken over, and also when that fails", async () => {
    let over: (failure: Fault | null) => void = () => undefined;
    takingOver = new Promise((resolve, reject) => {
      over = (failure) => (failure === null ? resolve() : reject(failure));
    });
    const { id } = queue.add(base("shop"), "asked for");
    await settled();
    children[0]?.events.message({ kind: "done", result });
    children[0]?.events.ended("exit code 0");
    await settled();
    expect(queue.cancel(id, "too late").state).toBe("running");
    over(new Fault("BACKUP_STORE_FAILED", "The store does not answer"));
    await settled();
    expect(queue.get(id)).toMatchObject({ state: "done", result, fault: null });
  });

  it("runs a bounded number at a time, in the order they came", async () => {
    const ids = ["a", "b", "c", "d"].map((cluster) => queue.add(base(cluster), "schedule").id);
    await settled();
    const states = (): string[] => ids.map((id) => queue.get(id).state);
    expect(states()).toEqual(["running", "running", "waiting", "waiting"]);
    children[1]?.events.message({ kind: "done", result });
    children[1]?.events.ended("exit code 0");
    await settled();
    expect(states()).toEqual(["running", "done", "running", "waiting"]);
  });

  it("refuses a second of a kind for a cluster, and says which runs", () => {
    const { id } = queue.add(base("shop"), "schedule");
    expect(() => queue.add(base("shop"), "asked for")).toThrow(
      expect.objectContaining({ code: "BACKUP_JOB_RUNNING", detail: expect.stringContaining(id) as unknown }),
    );
    queue.add(base("other"), "schedule");
    queue.add({ kind: "verify", cluster: "shop", backup: null, reason: "schedule" }, "schedule");
  });

  it("a job that dies without an answer has failed, and the next one starts", async () => {
    const { id } = queue.add(base("shop"), "schedule");
    await settled();
    children[0]?.events.ended("signal SIGKILL");
    expect(queue.get(id)).toMatchObject({ state: "failed", fault: { code: "BACKUP_JOB_DIED" } });
    expect(queue.get(id).fault?.detail).toContain("SIGKILL");
    queue.add(base("shop"), "again");
    await settled();
    expect(children).toHaveLength(2);
  });

  it("passes the fault of a job on, and takes nothing after its answer", async () => {
    const { id } = queue.add(base("shop"), "schedule");
    await settled();
    const fault = new Fault("BACKUP_NO_SOURCE", "No server can be copied now").report();
    children[0]?.events.message({ kind: "failed", fault });
    children[0]?.events.message({ kind: "done", result });
    children[0]?.events.message({ kind: "nonsense" });
    children[0]?.events.ended("exit code 1");
    expect(queue.get(id)).toMatchObject({ state: "failed", fault, result: null });
  });

  it("a program that refuses ends the job before its process starts", async () => {
    refusal = new Fault("PROGRAM_FAILED", "The required program failed");
    const { id } = queue.add(base("shop"), "schedule");
    await settled();
    expect(children).toEqual([]);
    expect(queue.get(id)).toMatchObject({ state: "failed", fault: { code: "PROGRAM_FAILED" } });
  });

  it("cancels one that waits at once, tells one that runs, and kills it when it does not end", async () => {
    const running = queue.add(base("a"), "schedule").id;
    queue.add(base("b"), "schedule");
    const waiting = queue.add(base("c"), "schedule").id;
    await settled();
    expect(queue.cancel(waiting, "asked for").state).toBe("cancelled");
    queue.cancel(running, "asked for");
    expect(children[0]?.sent.at(-1)).toEqual({ kind: "cancel", reason: "asked for" });
    time.pass(19_000);
    expect(children[0]?.signals).toEqual([]);
    time.pass(2_000);
    expect(children[0]?.signals).toEqual(["SIGKILL"]);
    children[0]?.events.message({ kind: "failed", fault: new Fault("BACKUP_CANCELLED", "stopped").report() });
    children[0]?.events.ended("signal SIGKILL");
    expect(queue.get(running).state).toBe("cancelled");
    expect(queue.cancel(running, "again").state).toBe("cancelled");
    expect(() => queue.cancel("nobody", "x")).toThrow(expect.objectContaining({ code: "NOT_FOUND" }));
  });

  it("remembers the last hundred that ended, and no more", async () => {
    for (let count = 0; count < 130; count += 1) {
      queue.add(base("shop"), "schedule");
      await settled();
      children.at(-1)?.events.ended("exit code 1");
    }
    expect(queue.list().length).toBeLessThanOrEqual(101);
  });

  it("stop ends what runs and starts nothing more", async () => {
    queue.add(base("a"), "schedule");
    queue.add(base("b"), "schedule");
    queue.add(base("c"), "schedule");
    await settled();
    const stopped = queue.stop();
    for (const child of children) child.events.ended("exit code 1");
    time.pass(100);
    await stopped;
    expect(children).toHaveLength(2);
    expect(queue.list().every((job) => job.state !== "running" && job.state !== "waiting")).toBe(true);
  });
});
