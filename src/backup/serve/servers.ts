import type { Log } from "../../agent/context.ts";
import { DcsMirror } from "../../agent/mirror.ts";
import type { ReceiverRecord } from "../../cluster/records.ts";
import type { BackupClusterSettings } from "../../config/backup-config.ts";
import type { Dcs } from "../../dcs/dcs.ts";
import { keys, parseSecrets } from "../../dcs/layout.ts";
import { oneRow, type SqlClient } from "../../postgres/sql.ts";
import type { Clock } from "../../system/clock.ts";
import { Fault, toFault } from "../../values/fault.ts";
import type { Lsn } from "../../values/lsn.ts";
import type { Timeline } from "../../values/names.ts";
import { Secret } from "../../values/secret.ts";
import type { NodePosition } from "../catalogue/retention.ts";
import { withNodeSql } from "../node-sql.ts";
import { ownCredentials } from "../receiver/agents-source.ts";
import { NodePositions } from "./node-positions.ts";

/** The servers of one cluster, as far as a backup server deals with them beside its receiver and its jobs. */
export interface ClusterServers {
  /** The leader's name; null = there is none, or it is not known. Where there are no agents, nobody is known. */
  leader(): LeaderView | null;
  /** The token of the cluster's agents; null = not known. */
  token(): Secret | null;
  /** What receivers say of themselves. */
  receivers(): readonly ReceiverRecord[];
  /** Where the WAL of the nodes ends, also of those that are away, but not for too long. */
  positions(): readonly NodePosition[];
  /** Runs statements on the primary. @throws Fault NO_LEADER, POSTGRES_* */
  onPrimary<T>(work: (client: SqlClient) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

export interface LeaderView {
  readonly node: string;
  readonly timeline: Timeline | null;
  readonly lsn: Lsn | null;
}

/** A cluster with agents: the DCS knows it. */
export function clusterOfAgents(
  settings: BackupClusterSettings,
  dcs: Dcs,
  clock: Clock,
  log: Log,
): ClusterServers {
  const positions = new NodePositions(clock);
  const mirror = new DcsMirror(dcs, clock, () => positions.take(mirror.state));
  mirror.open();
  const secrets = (): ReturnType<typeof parseSecrets> | null => {
    const text = mirror.entry(keys.secrets)?.value;
    try {
      return text === undefined ? null : parseSecrets(text);
    } catch (thrown) {
      log("error", "secrets.garbage", { cluster: settings.cluster, message: toFault(thrown).message });
      return null;
    }
  };
  const leader = (): LeaderView | null => {
    const lease = mirror.state?.lease.value ?? null;
    if (lease === null || lease.state === "released") return null;
    return { node: lease.holder, timeline: lease.timeline, lsn: lease.lsn };
  };
  return {
    leader,
    token: () => {
      const token = secrets()?.api.token;
      return token === undefined ? null : new Secret(token);
    },
    receivers: () => [...(mirror.state?.receivers.values() ?? [])].map(({ value }) => value),
    positions: () => positions.now(),
    onPrimary: async (work) => {
      const name = leader()?.node;
      const node = [...(mirror.state?.nodes.values() ?? [])].find(({ value }) => value.name === name)?.value;
      const known = secrets();
      if (node === undefined || known === null)
        throw new Fault("NO_LEADER", `The cluster ${settings.cluster} has no leader now`, {
          detail: mirror.state === null ? "The DCS has not answered yet." : "No node holds the lease.",
          hint: "See pgherd status.",
        });
      const own = await ownCredentials(settings.connection);
      const { username, password } = known.superuser;
      const credentials = own ?? { user: username, password: new Secret(password) };
      const { host, port } = node;
      return withNodeSql(settings.connection, { host, port, ...credentials }, work);
    },
    close: async () => {
      mirror.close();
      await dcs.close();
    },
  };
}

/** A cluster without agents: its servers are asked who leads. */
export function clusterOfHosts(settings: BackupClusterSettings): ClusterServers {
  const hosts = settings.connection.hosts ?? [];
  return {
    leader: () => null,
    token: () => null,
    receivers: () => [],
    positions: () => [],
    onPrimary: async (work) => {
      const credentials = await ownCredentials(settings.connection);
      if (credentials === null)
        throw new Fault("CONFIG_INVALID", `connection.user is missing for ${settings.cluster}`);
      const problems: string[] = [];
      let hint: string | null = null;
      for (const host of hosts) {
        try {
          return await withNodeSql(settings.connection, { ...host, ...credentials }, async (client) => {
            const { standby } = await oneRow(client, "SELECT pg_is_in_recovery() AS standby");
            if (standby === true) throw new NotPrimary();
            return work(client);
          });
        } catch (thrown) {
          const cause = thrown instanceof Fault ? thrown.cause : thrown;
          if (cause instanceof NotPrimary) {
            problems.push(`${host.host}:${host.port} is a standby`);
            continue;
          }
          const fault = toFault(thrown);
          if (fault.code === "POSTGRES_QUERY_FAILED") throw fault;
          problems.push(fault.detail ?? fault.message);
          hint ??= fault.hint;
        }
      }
      throw new Fault("NO_LEADER", `None of the servers of ${settings.cluster} is its primary now`, {
        detail: problems.join("; "),
        hint: hint ?? "Check connection.hosts in the backup file.",
      });
    },
    close: () => Promise.resolve(),
  };
}

class NotPrimary extends Error {}
