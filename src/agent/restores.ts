import type { ReceiverRecord } from "../cluster/records.ts";
import { Fault, toFault } from "../values/fault.ts";
import type { AgentContext } from "./context.ts";
import { nearestArchive } from "./local-archive.ts";
import type { ClusterRecovery, RecoveryService } from "./recovery.ts";
import { allowedWish, type RestorePlaces } from "./restore-places.ts";
import type { RestoreJob, RestoreSummary, RestoreWish } from "./restore-port.ts";

/** Ended restores that are still told of. */
const mostKept = 20;

/** Restores to directories of this host that somebody asked this agent for. */
export interface RestoreService {
  /** @throws Fault as `start`; nothing is written */
  plan(wish: RestoreWish): Promise<RestoreSummary>;
  /**
   * Begins one, one at a time. What it may not write to is refused before.
   * @throws Fault BACKUP_JOB_RUNNING, BACKUP_TARGET_IN_USE, NOT_FOUND, BACKUP_*, DATA_DIR_*, DISK_FULL
   */
  start(wish: RestoreWish): Promise<RestoreJob>;
  /** Newest last. */
  list(): readonly RestoreJob[];
  /** @throws Fault NOT_FOUND */
  job(id: string): RestoreJob;
  /** Ends one; one that has ended is let be. @throws Fault NOT_FOUND */
  cancel(id: string): RestoreJob;
  /** The whole cluster instead of a directory. */
  readonly cluster: RecoveryService;
}

type KeptJob = RestoreJob & { readonly ending: AbortController };

/** Keeps the restores of one agent. They end with it, and the same request goes on where one ended. */
export class RestoreJobs implements RestoreService {
  readonly #context: AgentContext;
  readonly #places: () => RestorePlaces;
  readonly #jobs: KeptJob[] = [];
  #starting = false;

  readonly cluster: ClusterRecovery;

  constructor(context: AgentContext, places: () => RestorePlaces, cluster: ClusterRecovery) {
    this.#context = context;
    this.#places = places;
    this.cluster = cluster;
  }

  async plan(asked: RestoreWish): Promise<RestoreSummary> {
    const wish = allowedWish(asked, this.#places());
    const signal = new AbortController().signal;
    const work = { kind: "plan", wish } as const;
    return this.#context.archive.restore(archiveOf(this.#context), work, { signal, onStep: () => undefined });
  }

  async start(wish: RestoreWish): Promise<RestoreJob> {
    const running = this.#jobs.find((each) => each.state === "running");
    if (running !== undefined || this.#starting)
      throw new Fault("BACKUP_JOB_RUNNING", "This agent restores something already", {
        ...(running === undefined ? {} : { detail: `${running.id} to ${running.dir}.` }),
        hint: "Wait for its end.",
      });
    this.#starting = true;
    try {
      // What cannot be done is said at once, and not by a job that fails.
      await this.plan(wish);
      return this.#begin(archiveOf(this.#context), allowedWish(wish, this.#places()));
    } finally {
      this.#starting = false;
    }
  }

  list(): readonly RestoreJob[] {
    return this.#jobs.map(told);
  }

  job(id: string): RestoreJob {
    return told(this.#found(id));
  }

  cancel(id: string): RestoreJob {
    const job = this.#found(id);
    job.ending.abort();
    return told(job);
  }

  /** Ends what runs. */
  close(): void {
    for (const job of this.#jobs) job.ending.abort();
    this.cluster.close();
  }

  #begin(receiver: ReceiverRecord, wish: RestoreWish): RestoreJob {
    const { archive, clock, random, log } = this.#context;
    const ending = new AbortController();
    const id = random.uuid();
    this.#jobs.push({
      id,
      dir: wish.dir,
      state: "running",
      startedAt: clock.wall(),
      endedAt: null,
      step: null,
      result: null,
      fault: null,
      ending,
    });
    if (this.#jobs.length > mostKept) this.#jobs.shift();
    log("info", "restore.started", { id, dir: wish.dir, receiver: receiver.name });
    archive
      .restore(
        receiver,
        { kind: "restore", wish },
        { signal: ending.signal, onStep: (step) => this.#change(id, { step }) },
      )
      .then(
        (result) => this.#change(id, { state: "done", result, endedAt: clock.wall() }),
        (thrown: unknown) => {
          const fault = toFault(thrown).report();
          const state = ending.signal.aborted ? "cancelled" : "failed";
          log("warn", "restore.failed", { id, dir: wish.dir, ...fault });
          this.#change(id, { state, fault, endedAt: clock.wall() });
        },
      )
      .catch((thrown: unknown) => log("error", "restore.defect", { ...toFault(thrown).report() }));
    return this.job(id);
  }

  #change(id: string, change: Partial<RestoreJob>): void {
    const at = this.#jobs.findIndex((each) => each.id === id);
    const job = this.#jobs[at];
    if (job !== undefined) this.#jobs[at] = { ...job, ...change };
  }

  #found(id: string): KeptJob {
    const job = this.#jobs.find((each) => each.id === id);
    if (job === undefined) throw new Fault("NOT_FOUND", `This agent has no restore ${id}`);
    return job;
  }
}

/** The backup server that is asked. @throws Fault NOT_FOUND */
export function archiveOf(context: AgentContext): ReceiverRecord {
  const receiver = nearestArchive(context);
  if (receiver !== null) return receiver;
  throw new Fault("NOT_FOUND", "The cluster has no backup server", {
    detail: "No receiver of WAL with an API has a record in the DCS.",
    hint: "Start one: pgherd backup serve --config BACKUP.yml",
  });
}

function told({ id, dir, state, startedAt, endedAt, step, result, fault }: KeptJob): RestoreJob {
  return { id, dir, state, startedAt, endedAt, step, result, fault };
}
