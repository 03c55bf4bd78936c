import { readFile } from "node:fs/promises";
import type { NodeRecord } from "../../cluster/records.ts";
import type { BackupConnection } from "../../config/backup-config.ts";
import { keys, parseSecrets } from "../../dcs/layout.ts";
import { Fault, toFault, type FaultReport } from "../../values/fault.ts";
import type { Lsn } from "../../values/lsn.ts";
import type { NodeName } from "../../values/names.ts";
import { Secret } from "../../values/secret.ts";
import type { ReceiverFacts, ReceiverMember, StreamTarget } from "../member/receiver-member.ts";
import { connectReplication, type ConnectPorts } from "../replication/connect.ts";
import type { ReplicationConnection } from "../replication/connection.ts";
import type { ServerLine } from "./line.ts";
import type { SourceFacts, SourceTarget, WalSource } from "./source.ts";

/** A server that is there answers at once; one that is not should not hold commits up. */
export const connectMs = 3_000;
/** The server ends a connection that is silent for so long, and frees its slot. */
export const senderTimeout = "10s";

export interface AgentsSourceParts {
  readonly name: string;
  readonly connection: BackupConnection;
  readonly ports: ConnectPorts;
  /** What the daemon knows: the last backup and drill, a gap that no backup closed. */
  readonly facts: () => Pick<ReceiverFacts, "lastBackupAt" | "lastDrillAt" | "gap">;
  /** Ends what the member works with. */
  readonly close: () => Promise<void>;
}

/** A cluster with agents: the member follows its lease. */
export class AgentsSource implements WalSource {
  readonly plainName: string;
  readonly #member: ReceiverMember;
  readonly #parts: AgentsSourceParts;
  #of: { readonly stream: StreamTarget; readonly target: SourceTarget } | null = null;

  constructor(member: ReceiverMember, parts: AgentsSourceParts) {
    this.#member = member;
    this.#parts = parts;
    this.plainName = parts.name;
  }

  target(): SourceTarget | null {
    const stream = this.#member.target;
    if (stream === null) return null;
    if (this.#of?.stream !== stream) {
      const { node, host, port, token, slot } = stream;
      this.#of = { stream, target: { name: node, host, port, token, slot } };
    }
    return this.#of.target;
  }

  onTarget(listener: () => void): () => void {
    return this.#member.onTarget(listener);
  }

  others(): readonly SourceTarget[] {
    const leader = this.#member.target;
    return this.#nodes()
      .filter((node) => node.name !== leader?.node && node.role !== null)
      .map(({ name, host, port }) => ({ name, host, port, token: leader?.token ?? null, slot: null }));
  }

  oldest(target: SourceTarget): Lsn | null {
    return this.#nodes().find((node) => node.name === target.name)?.oldestWalLsn ?? null;
  }

  applicationName(target: SourceTarget, line: ServerLine | null): string | null {
    const stream = this.#of?.target === target ? this.#of.stream : null;
    if (stream === null) throw new Fault("BACKUP_WAL_STALE", `${target.name} does not lead any more`);
    return this.#member.applicationName(stream, line);
  }

  async connect(
    target: SourceTarget,
    applicationName: string,
    signal: AbortSignal,
  ): Promise<ReplicationConnection> {
    const { connection, ports } = this.#parts;
    const { user, password } = (await ownCredentials(connection)) ?? this.#clusterCredentials();
    const { host, port } = target;
    const settings = { wal_sender_timeout: senderTimeout };
    const { tls } = connection;
    return connectReplication(
      { host, port, user, password, applicationName, tls, connectMs, settings },
      ports,
      signal,
    );
  }

  renew(): Promise<void> {
    return this.#member.renew();
  }

  problem(): FaultReport | null {
    if (this.#member.cluster === null)
      return new Fault("DCS_UNREACHABLE", "The DCS has not answered yet").report();
    const { rival } = this.#member;
    if (rival !== null)
      return new Fault(
        "NODE_NAME_IN_USE",
        `Another WAL receiver of the cluster is called ${this.#parts.name} too`,
        {
          detail: `It runs on ${rival} and keeps other WAL; this one does nothing.`,
          hint: "Give this backup server another name in its file. If the other one is to be replaced, stop it: this one goes on then.",
        },
      ).report();
    if (this.#member.target !== null) return null;
    return new Fault("NO_LEADER", "The cluster has no leader to stream from now").report();
  }

  report({ state, systemIdentifier, target, provenToken, archived, problem }: SourceFacts): void {
    this.#member.report({
      ...this.#parts.facts(),
      state,
      systemIdentifier,
      upstream: (target?.name ?? null) as NodeName | null,
      token: provenToken,
      archivedLsn: archived?.lsn ?? null,
      problem,
    });
  }

  close(): Promise<void> {
    this.#member.close();
    return this.#parts.close();
  }

  #nodes(): readonly NodeRecord[] {
    return [...(this.#member.cluster?.nodes.values() ?? [])].map(({ value }) => value);
  }

  #clusterCredentials(): Credentials {
    const text = this.#member.entry(keys.secrets);
    if (text === null) throw new Fault("DCS_GARBAGE", "The cluster has no secrets in the DCS yet");
    try {
      const { username, password } = parseSecrets(text).replication;
      return { user: username, password: new Secret(password) };
    } catch (thrown) {
      throw new Fault("DCS_GARBAGE", "The cluster's secrets in the DCS cannot be understood", {
        cause: thrown,
      });
    }
  }
}

interface Credentials {
  readonly user: string;
  readonly password: Secret | null;
}

/** As whom the backup file says to connect; null = it does not. @throws Fault CONFIG_UNREADABLE */
export async function ownCredentials({ user, passwordFile }: BackupConnection): Promise<Credentials | null> {
  if (user === null) return null;
  if (passwordFile === null) return { user, password: null };
  try {
    return { user, password: new Secret((await readFile(passwordFile, "utf8")).trim()) };
  } catch (thrown) {
    throw new Fault("CONFIG_UNREADABLE", `The password file ${passwordFile} cannot be read`, {
      detail: toFault(thrown).message,
      cause: thrown,
    });
  }
}
