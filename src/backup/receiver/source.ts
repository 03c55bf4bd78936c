import type { ReplicationConnection } from "../replication/connection.ts";
import type { Lsn } from "../../values/lsn.ts";
import type { FencingToken, SystemIdentifier } from "../../values/names.ts";
import type { FaultReport } from "../../values/fault.ts";
import type { LinePosition, ServerLine } from "./line.ts";

/** A server to stream from. A new object for each change of leader or token. */
export interface SourceTarget {
  /** The node's name, or its address where no agent manages it. */
  readonly name: string;
  readonly host: string;
  readonly port: number;
  /** Of the lease it leads with; null = no agents. */
  readonly token: FencingToken | null;
  /** null = without a slot. */
  readonly slot: string | null;
}

/** Whom to stream from, and as whom: the cluster's DCS, or a list of servers. */
export interface WalSource {
  /** The leader; null = there is none to follow now. */
  target(): SourceTarget | null;
  /** @returns stops calling back */
  onTarget(listener: () => void): () => void;
  /** Servers that may have WAL which the leader has not any more. */
  others(): readonly SourceTarget[];
  /** The oldest position whose WAL a server says it still has; null = not known. */
  oldest(target: SourceTarget): Lsn | null;
  /**
   * How to call ourselves there (S5). null = only the server's line can tell.
   * @throws Fault BACKUP_WAL_STALE when it does not lead any more
   */
  applicationName(target: SourceTarget, line: ServerLine | null): string | null;
  /** A name under which commits never wait for us. */
  readonly plainName: string;
  /** @throws Fault POSTGRES_*, CONFIG_UNREADABLE */
  connect(target: SourceTarget, applicationName: string, signal: AbortSignal): Promise<ReplicationConnection>;
  /** What is here does not continue what was here. */
  renew(): Promise<void>;
  /** Why there is nobody to follow; null = there is, or nothing is wrong. */
  problem(): FaultReport | null;
  /** Takes over how it stands here. */
  report(facts: SourceFacts): void;
  close(): Promise<void>;
}

export interface SourceFacts {
  readonly state: "connecting" | "streaming" | "failed";
  readonly systemIdentifier: SystemIdentifier | null;
  readonly target: SourceTarget | null;
  /** The token under whose proven name it streams; null = under none. */
  readonly provenToken: FencingToken | null;
  readonly archived: LinePosition | null;
  readonly problem: FaultReport | null;
}

/** What the source may ask of the receiving end. */
export interface ReceivingEnd {
  stop(): Promise<void>;
  position(): LinePosition | null;
}
