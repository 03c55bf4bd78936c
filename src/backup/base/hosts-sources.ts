import type { BackupClusterSettings } from "../../config/backup-config.ts";
import { Fault, toFault } from "../../values/fault.ts";
import type { Secret } from "../../values/secret.ts";
import { withNodeSql } from "../node-sql.ts";
import { ownCredentials } from "../receiver/agents-source.ts";
import { showSetting } from "../replication/commands.ts";
import { connectReplication, type ConnectPorts } from "../replication/connect.ts";
import type { ReplicationConnection } from "../replication/connection.ts";
import { applicationName, connectMs } from "./agents-sources.ts";
import type { BaseJobOptions } from "./job-protocol.ts";
import type { BaseSource, BaseSources } from "./sources.ts";

/** Servers without agents: each is asked what it is. */
export class HostsSources implements BaseSources {
  readonly #settings: BackupClusterSettings;
  readonly #ports: ConnectPorts;
  #primary: BaseSource | null = null;

  constructor(settings: BackupClusterSettings, ports: ConnectPorts) {
    this.#settings = settings;
    this.#ports = ports;
  }

  async candidates(from: BaseJobOptions["from"]): Promise<readonly BaseSource[]> {
    const problems: string[] = [];
    let hint: string | null = null;
    const found: BaseSource[] = [];
    for (const { host, port } of this.#settings.connection.hosts ?? []) {
      const asked: BaseSource = { node: null, name: `${host}:${port}`, host, port, role: "primary" };
      try {
        found.push({ ...asked, role: await this.#roleOf(asked) });
      } catch (thrown) {
        const fault = toFault(thrown);
        problems.push(fault.detail ?? `${asked.name}: ${fault.message}`);
        hint ??= fault.hint;
      }
    }
    this.#primary = found.find(({ role }) => role === "primary") ?? null;
    if (found.length === 0)
      throw new Fault("BACKUP_NO_SOURCE", "None of the servers answers", {
        detail: problems.join("; "),
        hint: hint ?? "Check connection.hosts in the backup file.",
      });
    const ranked = found.sort((a, b) => Number(a.role === "primary") - Number(b.role === "primary"));
    if (typeof from === "object")
      return ranked.filter(({ name, host }) => name === from.node || host === from.node);
    return from === "auto" ? ranked : ranked.filter(({ role }) => role === from);
  }

  async connect({ host, port }: BaseSource, signal: AbortSignal): Promise<ReplicationConnection> {
    const { connection } = this.#settings;
    const credentials = await this.#credentials();
    const who = { ...credentials, applicationName, tls: connection.tls };
    return connectReplication({ host, port, ...who, connectMs, bulk: true }, this.#ports, signal);
  }

  /** Nobody tells. */
  behind(): Promise<string | null> {
    return Promise.resolve(null);
  }

  /** PostgreSQL itself says so, at the end of the copy. */
  lost(): Promise<string | null> {
    return Promise.resolve(null);
  }

  async switchWal(): Promise<void> {
    if (this.#primary === null) throw new Fault("NO_LEADER", "None of the servers is a primary now");
    const { host, port } = this.#primary;
    const credentials = await this.#credentials();
    await withNodeSql(this.#settings.connection, { host, port, ...credentials }, (client) =>
      client.query("SELECT pg_switch_wal()"),
    );
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  async #roleOf(source: BaseSource): Promise<BaseSource["role"]> {
    const connection = await this.connect(source, new AbortController().signal);
    try {
      // Before version 14 the server does not say; whoever lets nobody write is taken for a standby.
      const standby =
        connection.inRecovery ?? (await showSetting(connection, "transaction_read_only")) === "on";
      return standby ? "standby" : "primary";
    } finally {
      connection.close();
    }
  }

  async #credentials(): Promise<{ readonly user: string; readonly password: Secret | null }> {
    const credentials = await ownCredentials(this.#settings.connection);
    if (credentials !== null) return credentials;
    throw new Fault("CONFIG_INVALID", "connection.user is missing in the backup file");
  }
}
