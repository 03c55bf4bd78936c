import { join } from "node:path";
import type { ArchivePort, SavedWal, SpoolWish } from "../../agent/archive-port.ts";
import type { Log } from "../../agent/context.ts";
import type { RestoreResults, RestoreWatch, RestoreWork } from "../../agent/restore-port.ts";
import type { ReceiverRecord } from "../../cluster/records.ts";
import { walDirectory } from "../../postgres/wal.ts";
import type { Clock } from "../../system/clock.ts";
import type { Timers } from "../../system/timers.ts";
import { Fault, toFault } from "../../values/fault.ts";
import type { NodeName } from "../../values/names.ts";
import type { Secret } from "../../values/secret.ts";
import { archiveCommand, restoreCommand } from "../push/commands.ts";
import { httpWal } from "../push/http-wal.ts";
import { runSpool } from "../push/run-spool.ts";
import { saveWal } from "../push/save-wal.ts";
import type { WalPort } from "../push/wal-port.ts";
import { faultOf, ServerRequests } from "../server-requests.ts";
import { restoreInChild } from "./restore-child.ts";

export interface AgentArchiveOptions {
  readonly cluster: string;
  readonly node: NodeName;
  readonly dataDir: string;
  readonly stateDir: string;
  readonly token: () => Secret | null;
  /** The authority of the backup servers' certificates, PEM; null = the system's. */
  readonly caFile: string | null;
  /** The key of an encrypted repository, for restores; null = it is not encrypted. */
  readonly keyFile: string | null;
  /** PostgreSQL's programs. */
  readonly binDir: string;
  /** What starts this program: a restore is a process of its own. */
  readonly command: readonly string[];
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
}

/** How much restore_command has ready ahead of replay. */
const aheadBytes = 128 << 20;

/** What backup servers keep, for an agent: over their HTTP API, and the spool of restore_command and archive_command. */
export class AgentArchive implements ArchivePort {
  readonly commands: { readonly restore: string; readonly archive: string };
  readonly #options: AgentArchiveOptions;
  readonly #spoolDir: string;
  readonly #ports = new Map<string, WalPort & { close(): void }>();
  #wish: SpoolWish | null = null;
  #spool: { readonly push: boolean; readonly ending: AbortController; readonly done: Promise<void> } | null =
    null;

  constructor(options: AgentArchiveOptions) {
    this.#options = options;
    this.#spoolDir = join(options.stateDir, "spool");
    this.commands = {
      restore: restoreCommand(this.#spoolDir),
      archive: archiveCommand(this.#spoolDir),
    };
  }

  fetch(receiver: ReceiverRecord, name: string, signal: AbortSignal): Promise<Buffer | null> {
    return this.#portOf(receiver).fetch(name, { partial: true, towards: null, signal });
  }

  async save(receiver: ReceiverRecord): Promise<SavedWal> {
    const { dataDir, node, log } = this.#options;
    const saved = await saveWal({
      walDir: walDirectory(dataDir),
      port: this.#portOf(receiver),
      source: `saved by ${node}`,
      log,
    });
    return { stored: saved.stored.length, aside: saved.aside.length };
  }

  /** Begins or ends to serve the spool; returns at once. */
  serve(wish: SpoolWish | null): void {
    this.#wish = wish;
    const push = wish?.push ?? false;
    if (this.#spool !== null && (wish === null || this.#spool.push !== push)) {
      this.#spool.ending.abort();
      return; // begun anew when it has ended
    }
    if (wish === null || this.#spool !== null) return;
    const ending = new AbortController();
    const done = this.#run(push, wish.budgetBytes, ending.signal)
      .catch((thrown: unknown) => this.#options.log("error", "spool.failed", { ...toFault(thrown).report() }))
      .then(() => {
        this.#spool = null;
        if (!this.#closed) this.serve(this.#wish);
      });
    this.#spool = { push, ending, done };
  }

  restore<W extends RestoreWork>(
    receiver: ReceiverRecord,
    work: W,
    watch: RestoreWatch,
  ): Promise<RestoreResults[W["kind"]]> {
    const { cluster, token, caFile, keyFile, binDir, command, timers } = this.#options;
    const server = { url: addressOf(receiver), cluster, token: token()?.reveal() ?? null, caFile, keyFile };
    return restoreInChild(command, { server, binDir, work }, watch, timers);
  }

  async askForBackup(receiver: ReceiverRecord): Promise<void> {
    const { cluster, timers } = this.#options;
    const server = new ServerRequests({ ...this.#options, url: addressOf(receiver) }, timers);
    try {
      const answer = await server.send({
        method: "POST",
        path: `/v1/clusters/${encodeURIComponent(cluster)}/jobs`,
        headers: { "content-type": "application/json" },
        body: Buffer.from(JSON.stringify({ kind: "base" })),
        limitBytes: 1 << 20,
      });
      if (answer.status < 300) return;
      const fault = faultOf(answer, server.url);
      // One that runs already will do.
      if (fault.code !== "BACKUP_JOB_RUNNING") throw fault;
    } finally {
      server.close();
    }
  }

  #closed = false;

  async close(): Promise<void> {
    this.#closed = true;
    this.#spool?.ending.abort();
    await this.#spool?.done;
    for (const port of this.#ports.values()) port.close();
  }

  async #run(push: boolean, budgetBytes: number, signal: AbortSignal): Promise<void> {
    const { dataDir, node, clock, timers, log } = this.#options;
    await runSpool({
      port: this.#present(),
      dir: this.#spoolDir,
      dataDir,
      source: `pushed by ${node}`,
      token: () => this.#wish?.token ?? null,
      push,
      budgetBytes,
      aheadBytes,
      mode: "standby",
      towards: null,
      clock,
      timers,
      log,
      signal,
      tell: () => undefined,
    });
  }

  /** The archive of whichever backup server is there now. */
  #present(): WalPort {
    const port = (): WalPort => {
      const receiver = this.#wish?.receiver ?? null;
      if (receiver === null)
        throw new Fault("BACKUP_STORE_UNREACHABLE", "No backup server of the cluster is known");
      return this.#portOf(receiver);
    };
    return {
      fetch: async (name, options) => port().fetch(name, options),
      store: async (segment) => port().store(segment),
      storeHistory: async (timeline, text, token) => port().storeHistory(timeline, text, token),
      recordGap: async (gap) => port().recordGap(gap),
    };
  }

  #portOf(receiver: ReceiverRecord): WalPort {
    const apiUrl = addressOf(receiver);
    const known = this.#ports.get(apiUrl);
    if (known !== undefined) return known;
    const { cluster, token, caFile, node, timers } = this.#options;
    const made = httpWal({ url: apiUrl, cluster, token, caFile, source: node, timers });
    this.#ports.set(apiUrl, made);
    return made;
  }
}

/** @throws Fault BACKUP_STORE_UNREACHABLE */
function addressOf({ name, apiUrl }: ReceiverRecord): string {
  if (apiUrl === null)
    throw new Fault("BACKUP_STORE_UNREACHABLE", `The backup server of ${name} tells no address`);
  return apiUrl;
}
