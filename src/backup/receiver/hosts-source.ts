import type { BackupConnection } from "../../config/backup-config.ts";
import type { Timers } from "../../system/timers.ts";
import { Fault, toFault, type FaultReport } from "../../values/fault.ts";
import type { Lsn } from "../../values/lsn.ts";
import { slotNameOf, type NodeName } from "../../values/names.ts";
import { showSetting } from "../replication/commands.ts";
import { connectReplication, type ConnectPorts } from "../replication/connect.ts";
import type { ReplicationConnection } from "../replication/connection.ts";
import { connectMs, ownCredentials, senderTimeout } from "./agents-source.ts";
import type { SourceFacts, SourceTarget, WalSource } from "./source.ts";

export interface HostsSourceParts {
  readonly name: string;
  readonly connection: BackupConnection;
  readonly ports: ConnectPorts;
  readonly timers: Timers;
}

/** How often it is looked for a primary while there is none. */
const lookMs = 1_000;

/** Servers without agents: whichever says it is no standby leads. There is no token, and nobody else to tell. */
export class HostsSource implements WalSource {
  readonly plainName: string;
  readonly #parts: HostsSourceParts;
  readonly #all: readonly SourceTarget[];
  readonly #listeners = new Set<() => void>();
  readonly #ending = new AbortController();
  #target: SourceTarget | null = null;
  #problem: FaultReport | null = null;
  #looking: Promise<void> | null = null;

  constructor(parts: HostsSourceParts) {
    this.#parts = parts;
    this.plainName = parts.name;
    const slot = slotNameOf(parts.name as NodeName);
    this.#all = (parts.connection.hosts ?? []).map(({ host, port }) => ({
      name: `${host}:${port}`,
      host,
      port,
      token: null,
      slot,
    }));
  }

  target(): SourceTarget | null {
    if (this.#target === null) this.#looking ??= this.#look().finally(() => (this.#looking = null));
    return this.#target;
  }

  onTarget(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  others(): readonly SourceTarget[] {
    return this.#all
      .filter((each) => each.name !== this.#target?.name)
      .map((each) => ({ ...each, slot: null }));
  }

  oldest(): Lsn | null {
    return null;
  }

  applicationName(): string {
    return this.plainName;
  }

  async connect(
    target: SourceTarget,
    applicationName: string,
    signal: AbortSignal,
  ): Promise<ReplicationConnection> {
    const { connection, ports } = this.#parts;
    const credentials = await ownCredentials(connection);
    if (credentials === null)
      throw new Fault("CONFIG_INVALID", "connection.user is missing in the backup file");
    const { host, port } = target;
    const settings = { wal_sender_timeout: senderTimeout };
    const who = { ...credentials, applicationName, tls: connection.tls };
    return connectReplication({ host, port, ...who, connectMs, settings }, ports, signal);
  }

  renew(): Promise<void> {
    return Promise.resolve();
  }

  problem(): FaultReport | null {
    return this.#problem;
  }

  /** A connection that failed may mean that another server leads now: they are asked again. */
  report({ state }: SourceFacts): void {
    if (state === "failed") this.#target = null;
  }

  close(): Promise<void> {
    this.#ending.abort();
    return this.#looking ?? Promise.resolve();
  }

  async #look(): Promise<void> {
    const { signal } = this.#ending;
    while (!signal.aborted && this.#target === null) {
      const problems: string[] = [];
      const hints: string[] = [];
      for (const target of this.#all) {
        const standby = await this.#isStandby(target).catch((thrown: unknown) => {
          const fault = toFault(thrown);
          problems.push(`${target.name}: ${fault.detail ?? fault.message}`);
          if (fault.hint !== null) hints.push(fault.hint);
          return null;
        });
        if (standby === true) problems.push(`${target.name} is a standby`);
        if (standby !== false) continue;
        this.#target = { ...target };
        this.#problem = null;
        for (const listener of [...this.#listeners]) listener();
        return;
      }
      this.#problem = new Fault("NO_LEADER", "None of the servers is a primary now", {
        detail: problems.join("; "),
        hint: hints[0] ?? "Check connection.hosts in the backup file.",
      }).report();
      await this.#parts.timers.sleep(lookMs, signal);
    }
  }

  async #isStandby(target: SourceTarget): Promise<boolean> {
    const connection = await this.connect(target, this.plainName, this.#ending.signal);
    try {
      if (connection.inRecovery !== null) return connection.inRecovery;
      // Before version 14 the server does not say; whoever lets nobody write is taken for a standby.
      return (await showSetting(connection, "transaction_read_only")) === "on";
    } finally {
      connection.close();
    }
  }
}
