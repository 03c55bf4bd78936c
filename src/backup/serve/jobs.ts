import type { Log } from "../../agent/context.ts";
import type { Clock } from "../../system/clock.ts";
import type { Random } from "../../system/random.ts";
import type { Timer, Timers } from "../../system/timers.ts";
import { Fault, toFault, type FaultReport } from "../../values/fault.ts";
import { parseJobReport, type JobRequest } from "../base/job-protocol.ts";
import type { JobState, JobView } from "../service.ts";
import type { Child, StartChild } from "./child.ts";

export interface JobQueueParts {
  /** The daemon's configuration file: jobs read it themselves. */
  readonly configFile: string;
  /** How many run at the same time. */
  readonly limit: number;
  readonly start: StartChild;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  /** A job is about to start: what it throws ends the job as failed. */
  readonly before: (job: JobView, request: JobRequest) => Promise<void>;
  /** Takes over what a job's process wrote, before the job counts as done: who waits for it may ask for that next. */
  readonly takeOver: (request: JobRequest) => Promise<void>;
  /** A job has ended, one way or the other. */
  readonly ended: (job: JobView, request: JobRequest) => void;
}

/** Ended jobs that are still shown. */
const remembered = 100;
/** Jobs that wait; there are few kinds of them and few clusters. */
const mostWaiting = 200;
/** A cancelled job that has not ended by then is killed: nothing that was finished is lost. */
const cancelMs = 20_000;

interface Entry {
  view: JobView;
  readonly request: JobRequest;
  child: Child | null;
  answered: boolean;
  killTimer: Timer | null;
}

/** The daemon's jobs: one process each, a bounded number at a time, one of a kind for a cluster. */
export class JobQueue {
  readonly #parts: JobQueueParts;
  readonly #entries = new Map<string, Entry>();
  #stopped = false;
  #count = 0;

  constructor(parts: JobQueueParts) {
    this.#parts = parts;
  }

  /** @throws Fault BACKUP_JOB_RUNNING when one of this kind waits or runs for the cluster, TOO_MANY_CLIENTS */
  add(request: JobRequest, reason: string): JobView {
    const cluster = clusterOf(request);
    const active = [...this.#entries.values()].filter(({ view }) => isActive(view.state));
    const same = active.find(({ view }) => view.kind === request.kind && view.cluster === cluster);
    if (same !== undefined)
      throw new Fault("BACKUP_JOB_RUNNING", `${jobTitle(request)} is ${same.view.state} already`, {
        detail: `Job ${same.view.id}, since ${same.view.startedAt ?? same.view.queuedAt}.`,
        hint: `See pgherd backup status; pgherd backup cancel ${same.view.id} ends it.`,
      });
    if (active.length >= mostWaiting) throw new Fault("TOO_MANY_CLIENTS", "Too many jobs wait");
    this.#count += 1;
    const id = `${this.#parts.random.uuid().slice(0, 8)}-${this.#count}`;
    const view: JobView = {
      id,
      cluster,
      kind: request.kind,
      reason,
      state: "waiting",
      queuedAt: this.#parts.clock.wall(),
      startedAt: null,
      endedAt: null,
      pid: null,
      progress: null,
      result: null,
      fault: null,
    };
    this.#entries.set(id, { view, request, child: null, answered: false, killTimer: null });
    this.#forget();
    this.#pump();
    return this.get(id);
  }

  /** Oldest first. */
  list(): readonly JobView[] {
    return [...this.#entries.values()].map(({ view }) => view);
  }

  /** @throws Fault NOT_FOUND */
  get(id: string): JobView {
    return this.#entry(id).view;
  }

  /** @throws Fault NOT_FOUND */
  cancel(id: string, reason: string): JobView {
    const entry = this.#entry(id);
    if (entry.view.state === "waiting") this.#end(entry, "cancelled", cancelled(reason));
    else if (entry.view.state === "running") this.#tellToStop(entry, reason);
    return entry.view;
  }

  /** Whether a job of this kind waits or runs for the cluster. */
  active(kind: JobRequest["kind"], cluster: string | null): boolean {
    return this.list().some((job) => job.kind === kind && job.cluster === cluster && isActive(job.state));
  }

  /** Takes no more jobs, ends those that run, and resolves when none is left. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const { view } of [...this.#entries.values()])
      if (isActive(view.state)) this.cancel(view.id, "the backup server is ending");
    while (this.list().some((job) => job.state === "running")) await this.#parts.timers.sleep(50);
  }

  #entry(id: string): Entry {
    const entry = this.#entries.get(id);
    if (entry !== undefined) return entry;
    throw new Fault("NOT_FOUND", `There is no job ${id}`, {
      detail: `The last ${remembered} are known.`,
      hint: "See pgherd backup status.",
    });
  }

  #pump(): void {
    for (const entry of this.#entries.values()) {
      if (this.#stopped || this.#running() >= this.#parts.limit) return;
      if (entry.view.state === "waiting") void this.#start(entry);
    }
  }

  #running(): number {
    return this.list().filter((job) => job.state === "running").length;
  }

  async #start(entry: Entry): Promise<void> {
    const { clock, log, before, start, configFile } = this.#parts;
    const { request } = entry;
    this.#change(entry, { state: "running", startedAt: clock.wall() });
    try {
      await before(entry.view, request);
    } catch (thrown) {
      const fault =
        thrown instanceof Fault ? thrown : new Fault("INTERNAL", String(thrown), { cause: thrown });
      this.#end(entry, "failed", fault.report());
      return;
    }
    if (entry.view.state !== "running") return; // cancelled meanwhile
    log("info", "job.started", { job: entry.view.id, kind: request.kind, cluster: entry.view.cluster });
    const child = start(["backup-job"], {
      message: (message) => this.#heard(entry, message),
      ended: (how) => void this.#died(entry, how),
    });
    entry.child = child;
    this.#change(entry, { pid: child.pid });
    child.send({ kind: "start", id: entry.view.id, config: configFile, job: request });
  }

  #heard(entry: Entry, message: unknown): void {
    const report = parseJobReport(message);
    if (report === null || entry.answered) return;
    switch (report.kind) {
      case "ready":
        return;
      case "progress":
        this.#change(entry, { progress: report.progress });
        return;
      case "note":
        this.#parts.log(report.level, report.event, {
          job: entry.view.id,
          cluster: entry.view.cluster,
          message: report.message,
          ...report.facts,
        });
        return;
      case "done":
        entry.answered = true;
        this.#change(entry, { result: report.result });
        return;
      case "failed":
        entry.answered = true;
        this.#change(entry, { fault: report.fault });
        return;
    }
  }

  /** The job's word counts once its process has ended: what it wrote is then whole. */
  async #died(entry: Entry, how: string): Promise<void> {
    entry.child = null;
    if (entry.view.state !== "running") return;
    const { result, fault } = entry.view;
    try {
      if (result !== null) await this.#parts.takeOver(entry.request);
    } catch (thrown) {
      // The job is done all the same; the next look takes it over.
      this.#parts.log("warn", "job.not_taken_over", { job: entry.view.id, ...toFault(thrown).report() });
    }
    if (result !== null) this.#end(entry, "done", null);
    else if (fault !== null)
      this.#end(entry, fault.code === "BACKUP_CANCELLED" ? "cancelled" : "failed", fault);
    else
      this.#end(
        entry,
        "failed",
        new Fault("BACKUP_JOB_DIED", `${jobTitle(entry.request)} ended without an answer`, {
          detail: `Its process ended with ${how}.`,
          hint: "See the log of the backup server. Nothing that was finished is lost; the next run cleans up.",
        }).report(),
      );
  }

  #tellToStop(entry: Entry, reason: string): void {
    if (entry.child === null && entry.answered) return; // it has ended, and is about to count as done
    entry.child?.send({ kind: "cancel", reason });
    if (entry.child === null) this.#end(entry, "cancelled", cancelled(reason));
    entry.killTimer ??= this.#parts.timers.after(cancelMs, () => entry.child?.kill("SIGKILL"));
  }

  #end(entry: Entry, state: JobState, fault: FaultReport | null): void {
    const { clock, log, ended } = this.#parts;
    entry.killTimer?.cancel();
    this.#change(entry, { state, fault, endedAt: clock.wall(), pid: null });
    log(state === "failed" ? "error" : "info", `job.${state}`, {
      job: entry.view.id,
      kind: entry.view.kind,
      cluster: entry.view.cluster,
      ...fault,
    });
    ended(entry.view, entry.request);
    this.#pump();
  }

  #change(entry: Entry, change: Partial<JobView>): void {
    entry.view = { ...entry.view, ...change };
  }

  #forget(): void {
    const over = [...this.#entries.values()].filter(({ view }) => !isActive(view.state));
    for (const { view } of over.slice(0, Math.max(0, over.length - remembered)))
      this.#entries.delete(view.id);
  }
}

/** Whether a job in this state is still to come to its end. */
function isActive(state: JobState): boolean {
  return state === "waiting" || state === "running";
}

function clusterOf(request: JobRequest): string | null {
  return "cluster" in request && typeof request.cluster === "string" ? request.cluster : null;
}

const titles: Readonly<Record<string, string>> = {
  base: "A base backup",
  verify: "A verification",
  drill: "A drill",
  collect: "The collection of what nothing needs",
  restore: "A restore",
  copy: "The copy of the repository",
};

/** A job in words, to begin a sentence. */
function jobTitle(request: JobRequest): string {
  const cluster = clusterOf(request);
  return `${titles[request.kind] ?? request.kind}${cluster === null ? "" : ` of ${cluster}`}`;
}

function cancelled(reason: string): FaultReport {
  return new Fault("BACKUP_CANCELLED", `The job was told to stop: ${reason}`).report();
}
