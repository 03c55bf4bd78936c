import { DcsMirror } from "../../agent/mirror.ts";
import type { NodeRecord } from "../../cluster/records.ts";
import type { ClusterState } from "../../cluster/state.ts";
import type { BackupClusterSettings } from "../../config/backup-config.ts";
import type { Dcs } from "../../dcs/dcs.ts";
import { keys, parseSecrets } from "../../dcs/layout.ts";
import type { Clock } from "../../system/clock.ts";
import { Fault } from "../../values/fault.ts";
import { lsnDistance } from "../../values/lsn.ts";
import type { NodeName } from "../../values/names.ts";
import { Secret } from "../../values/secret.ts";
import { withNodeSql } from "../node-sql.ts";
import { ownCredentials } from "../receiver/agents-source.ts";
import { connectReplication, type ConnectPorts } from "../replication/connect.ts";
import type { ReplicationConnection } from "../replication/connection.ts";
import type { BaseJobOptions } from "./job-protocol.ts";
import { rankNodes, type BaseSource, type BaseSources } from "./sources.ts";

const readMs = 5_000;
export const connectMs = 10_000;
export const applicationName = "pgherd_base_backup";

/** The servers of a cluster with agents, as the DCS knows them. */
export class AgentsSources implements BaseSources {
  readonly #settings: BackupClusterSettings;
  readonly #dcs: Dcs;
  readonly #mirror: DcsMirror;
  readonly #ports: ConnectPorts;

  constructor(settings: BackupClusterSettings, dcs: Dcs, clock: Clock, ports: ConnectPorts) {
    this.#settings = settings;
    this.#dcs = dcs;
    this.#mirror = new DcsMirror(dcs, clock, () => undefined);
    this.#ports = ports;
  }

  async candidates(from: BaseJobOptions["from"], last: NodeName | null): Promise<readonly BaseSource[]> {
    const state = await this.#mirror.refresh(readMs);
    return rankNodes(nodesOf(state), leaderOf(state), from, last);
  }

  async connect({ host, port }: BaseSource, signal: AbortSignal): Promise<ReplicationConnection> {
    const { connection } = this.#settings;
    const { user, password } = (await ownCredentials(connection)) ?? this.#credentials("replication");
    const { tls } = connection;
    return connectReplication(
      { host, port, user, password, applicationName, tls, connectMs, bulk: true },
      this.#ports,
      signal,
    );
  }

  async behind(limitBytes: number): Promise<string | null> {
    const state = await this.#mirror.refresh(readMs);
    const leader = nodesOf(state).find(({ name }) => name === leaderOf(state));
    const end = leader?.lsn ?? null;
    if (end === null) return null;
    const late = nodesOf(state).find(
      ({ name, streaming, replayedLsn }) =>
        name !== leader?.name &&
        streaming &&
        replayedLsn !== null &&
        lsnDistance(end, replayedLsn) > limitBytes,
    );
    return late?.name ?? null;
  }

  async lost(source: BaseSource): Promise<string | null> {
    const state = await this.#mirror.refresh(readMs);
    if (source.role === "standby" && leaderOf(state) === source.node)
      return `${source.name} became the primary, and PostgreSQL cannot end the copy of a standby then`;
    return null;
  }

  async switchWal(): Promise<void> {
    const state = await this.#mirror.refresh(readMs);
    const leader = nodesOf(state).find(({ name }) => name === leaderOf(state));
    if (leader === undefined) throw new Fault("NO_LEADER", "The cluster has no leader now");
    const { host, port } = leader;
    const credentials = this.#credentials("superuser");
    await withNodeSql(this.#settings.connection, { host, port, ...credentials }, (client) =>
      client.query("SELECT pg_switch_wal()"),
    );
  }

  async close(): Promise<void> {
    this.#mirror.close();
    await this.#dcs.close();
  }

  #credentials(role: "replication" | "superuser"): { readonly user: string; readonly password: Secret } {
    const text = this.#mirror.entry(keys.secrets)?.value;
    if (text === undefined) throw new Fault("DCS_GARBAGE", "The cluster has no secrets in the DCS yet");
    try {
      const { username, password } = parseSecrets(text)[role];
      return { user: username, password: new Secret(password) };
    } catch (thrown) {
      throw new Fault("DCS_GARBAGE", "The cluster's secrets in the DCS cannot be understood", {
        cause: thrown,
      });
    }
  }
}

function nodesOf(state: ClusterState): readonly NodeRecord[] {
  return [...state.nodes.values()].map(({ value }) => value);
}

function leaderOf(state: ClusterState): NodeRecord["name"] | null {
  const lease = state.lease.value;
  return lease === null || lease.state === "released" ? null : lease.holder;
}
