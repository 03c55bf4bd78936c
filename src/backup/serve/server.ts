import type { Log } from "../../agent/context.ts";
import type { BackupClusterSettings, BackupSettings } from "../../config/backup-config.ts";
import type { Clock } from "../../system/clock.ts";
import type { Random } from "../../system/random.ts";
import type { Timers } from "../../system/timers.ts";
import { Fault, toFault } from "../../values/fault.ts";
import type { Secret } from "../../values/secret.ts";
import type { WallTime } from "../../values/time.ts";
import type { JobRequest } from "../base/job-protocol.ts";
import { openOrCreateRepository } from "../open.ts";
import type { Repository } from "../repository/repository.ts";
import type { BackupServerView, BackupService, JobView } from "../service.ts";
import type { StartChild } from "./child.ts";
import { ClusterRun } from "./cluster-run.ts";
import type { ServedCluster } from "./cluster.ts";
import { JobQueue } from "./jobs.ts";
import { Room } from "./room.ts";
import type { ClusterServers } from "./servers.ts";

export interface BackupServerParts {
  readonly settings: BackupSettings;
  /** Where the settings came from: children read it themselves. */
  readonly configFile: string;
  readonly version: string;
  readonly startChild: StartChild;
  /** How the servers of a cluster are reached. @throws Fault CONFIG_UNREADABLE */
  readonly serversOf: (cluster: BackupClusterSettings) => Promise<ClusterServers>;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
}

const openRetryMs = { first: 500, longest: 30_000 };

/** One backup server: its repository, its clusters, their receivers, and the jobs. */
export class BackupServer implements BackupService {
  readonly #parts: BackupServerParts;
  readonly #startedAt: WallTime;
  readonly #jobs: JobQueue;
  readonly #runs = new Map<string, ClusterRun>();
  readonly #ending = new AbortController();
  readonly #room: Room;
  #repository: Repository | null = null;
  #opening: Promise<void> = Promise.resolve();

  constructor(parts: BackupServerParts) {
    this.#parts = parts;
    this.#startedAt = parts.clock.wall();
    const { settings, configFile, startChild: start, clock, timers, random, log } = parts;
    this.#room = new Room(settings.repository, timers);
    this.#jobs = new JobQueue({
      configFile,
      limit: settings.jobs,
      start,
      clock,
      timers,
      random,
      log,
      before: async (_job, request) => this.#runOf(request)?.beforeJob(request),
      takeOver: async (request) => this.#runOf(request)?.takeOver(request),
      ended: (job, request) => this.#jobEnded(job, request),
    });
  }

  /** Starts the receivers at once, and everything else as soon as the repository is open. */
  async start(): Promise<void> {
    for (const settings of this.#parts.settings.clusters) {
      const servers = await this.#parts.serversOf(settings);
      const { configFile, startChild, clock, timers, log } = this.#parts;
      const run = new ClusterRun({
        server: this.#parts.settings,
        settings,
        servers,
        configFile,
        startChild,
        jobs: this.#jobs,
        freeBytes: () => this.#room.freeBytes,
        clock,
        timers,
        log,
      });
      this.#runs.set(settings.cluster, run);
      run.start();
    }
    this.#room.start();
    this.#opening = this.#open();
  }

  /** Ends the jobs and the receivers in order. */
  async stop(): Promise<void> {
    this.#ending.abort();
    this.#room.stop();
    await this.#jobs.stop();
    await Promise.all([...this.#runs.values()].map((run) => run.stop()));
    await this.#opening;
    await this.#repository?.close();
  }

  get server(): BackupServerView {
    const { settings, version } = this.#parts;
    return {
      name: settings.name,
      version,
      startedAt: this.#startedAt,
      repository: this.#repository?.store.description ?? "not open yet",
      encrypted: settings.repository.keyFile !== null,
      apiUrl: settings.api.url,
    };
  }

  clusters(): readonly string[] {
    return [...this.#runs.keys()];
  }

  cluster(name: string): ServedCluster {
    const run = this.#runs.get(name);
    if (run !== undefined) return run.cluster;
    throw new Fault("NOT_FOUND", `This backup server has no cluster ${name}`, {
      detail: `It has ${this.clusters().join(", ")}.`,
      hint: "Name one of these, or add it to the backup file.",
    });
  }

  jobs(): readonly JobView[] {
    return this.#jobs.list();
  }

  job(id: string): JobView {
    return this.#jobs.get(id);
  }

  cancel(id: string): JobView {
    return this.#jobs.cancel(id, "asked for");
  }

  get store(): BackupService["store"] {
    if (this.#repository !== null) return this.#repository.store;
    throw new Fault("BACKUP_STORE_UNREACHABLE", "The repository is not open yet");
  }

  /** The token of a cluster's agents, which is good for what is about that cluster. */
  tokenOf(cluster: string): Secret | null {
    return this.#runs.get(cluster)?.servers.token() ?? null;
  }

  /** Until it is open: a store that is away now may be back soon. */
  async #open(): Promise<void> {
    const { settings, clock, timers, log } = this.#parts;
    const { signal } = this.#ending;
    for (
      let pause: number = openRetryMs.first;
      !signal.aborted;
      pause = Math.min(2 * pause, openRetryMs.longest)
    ) {
      try {
        const repository = (this.#repository ??= await openOrCreateRepository(settings.repository, {
          clock,
          timers,
        }));
        for (const run of this.#runs.values()) await run.open(repository);
        log("info", "repository.open", { repository: repository.store.description, id: repository.id });
        return;
      } catch (thrown) {
        const fault = toFault(thrown);
        log("error", "repository.not_open", { ...fault.report(), again_in_ms: pause });
        for (const run of this.#runs.values()) run.troubled(fault.report());
        await timers.sleep(pause, signal);
      }
    }
  }

  #runOf(request: JobRequest): ClusterRun | null {
    return "cluster" in request ? (this.#runs.get(request.cluster) ?? null) : null;
  }

  #jobEnded(job: JobView, request: JobRequest): void {
    this.#runOf(request)?.jobEnded(job, request);
    if (request.kind !== "base" || job.state !== "done") return;
    // What is new is brought to the further repositories.
    this.#parts.settings.copies.forEach((_copy, index) =>
      this.#tryAdd({ kind: "copy", index }, "after a backup"),
    );
  }

  #tryAdd(request: JobRequest, reason: string): void {
    try {
      this.#jobs.add(request, reason);
    } catch (thrown) {
      this.#parts.log("info", "job.not_added", { kind: request.kind, ...toFault(thrown).report() });
    }
  }
}
