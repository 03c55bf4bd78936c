import type { NodeRecord } from "../../cluster/records.ts";
import { lsnDistance } from "../../values/lsn.ts";
import type { NodeName } from "../../values/names.ts";
import type { ReplicationConnection } from "../replication/connection.ts";
import type { BaseJobOptions } from "./job-protocol.ts";

/** A server that can be copied. */
export interface BaseSource {
  /** null = no agent manages it. */
  readonly node: NodeName | null;
  /** For people: the node's name, else its address. */
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly role: "primary" | "standby";
}

/** The servers of one cluster, for whoever copies one of them. */
export interface BaseSources {
  /**
   * Those that can be copied now, the best first.
   * @param last the source of the backup whose pages are taken over; null = it is not known
   * @throws Fault DCS_UNREACHABLE, POSTGRES_*
   */
  candidates(from: BaseJobOptions["from"], last: NodeName | null): Promise<readonly BaseSource[]>;
  /** @throws Fault POSTGRES_*, TOO_FEW_WALSENDERS, CONFIG_UNREADABLE */
  connect(source: BaseSource, signal: AbortSignal): Promise<ReplicationConnection>;
  /** The standby that is further behind than so many bytes; null = none, or it is not known. */
  behind(limitBytes: number): Promise<string | null>;
  /** Why a copy that was begun from this server cannot end well; null = it can. */
  lost(source: BaseSource): Promise<string | null>;
  /** Ends the primary's segment, so that the WAL a copy of a standby needs is whole. @throws Fault */
  switchWal(): Promise<void>;
  close(): Promise<void>;
}

/** A standby further behind than this is no good copy: it needs that much more WAL. */
const usableLagBytes = 1024 ** 3;

/**
 * Nodes to copy, the best first: standbys that are marked as sources of copies, then those nobody needs for a failover, then the one
 * copied last (hint bits are not the same everywhere, and each page that differs is stored again), then those that are least
 * behind; the primary when there is no standby. A named node stands alone. Pure.
 * @param last the source of the backup whose pages are taken over
 */
export function rankNodes(
  nodes: readonly NodeRecord[],
  leader: NodeName | null,
  from: BaseJobOptions["from"],
  last: NodeName | null,
): readonly BaseSource[] {
  const primary = nodes.find((node) => node.name === leader && node.state === "running") ?? null;
  const lag = (node: NodeRecord): number =>
    primary?.lsn == null || node.replayedLsn === null ? 0 : lsnDistance(primary.lsn, node.replayedLsn);
  const standbys = nodes
    .filter((node) => node.name !== leader && node.role === "standby")
    .filter((node) => node.state === "streaming" || node.state === "replaying")
    .filter((node) => node.operation === null && lag(node) <= usableLagBytes)
    .sort(
      (a, b) =>
        Number(b.state === "streaming") - Number(a.state === "streaming") ||
        Number(b.tags.clonefrom) - Number(a.tags.clonefrom) ||
        Number(b.tags.nofailover) - Number(a.tags.nofailover) ||
        Number(b.name === last) - Number(a.name === last) ||
        lagClass(lag(a)) - lagClass(lag(b)) ||
        (a.name < b.name ? -1 : 1),
    );
  const all = [
    ...standbys.map((node) => asSource(node, "standby")),
    ...(primary === null ? [] : [asSource(primary, "primary")]),
  ];
  if (typeof from === "object") return all.filter((source) => source.node === from.node);
  if (from === "auto") return all;
  return all.filter((source) => source.role === from);
}

/** Lags of the same size are equal: they change from moment to moment. */
function lagClass(bytes: number): number {
  return Math.floor(Math.max(0, bytes) / (16 * 1024 * 1024));
}

function asSource({ name, host, port }: NodeRecord, role: BaseSource["role"]): BaseSource {
  return { node: name, name, host, port, role };
}
