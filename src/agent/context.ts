import type { ClusterEvent, DecisionRecord, EventName } from "../cluster/decision.ts";
import type { Tags } from "../cluster/records.ts";
import type { ClusterSettings } from "../config/cluster-settings.ts";
import type { Dcs } from "../dcs/dcs.ts";
import type { DiskWatch } from "../postgres/disk.ts";
import type { PostgresInstance } from "../postgres/instance.ts";
import type { Clock } from "../system/clock.ts";
import type { Random } from "../system/random.ts";
import type { Timers } from "../system/timers.ts";
import type { NodeName } from "../values/names.ts";
import type { WallTime } from "../values/time.ts";
import type { ArchivePort } from "./archive-port.ts";
import type { DurabilityKeeper } from "./durability-keeper.ts";
import type { GuardPort } from "./guard-port.ts";
import type { Failsafe } from "./failsafe.ts";
import type { LeaseKeeper } from "./lease-keeper.ts";
import type { Membership } from "./membership.ts";
import type { DcsMirror } from "./mirror.ts";
import type { Notebook } from "./notebook.ts";
import type { Peers } from "./peers.ts";
import type { SecretStore } from "./secrets.ts";
import type { Suspicion } from "./suspicion.ts";
import type { StateFiles } from "./state-files.ts";

/** What an agent is told when it starts: the node file, reduced to what the loop needs. */
export interface AgentOptions {
  readonly cluster: string;
  readonly namespace: string;
  readonly node: NodeName;
  /** Identity of the installation, kept in the state directory. */
  readonly nodeId: string;
  readonly agentId: string;
  readonly agentVersion: string;
  readonly host: string;
  readonly postgresPort: number;
  readonly apiUrl: string;
  readonly location: string | null;
  readonly tags: Tags;
  readonly superuser: string;
  /** Used once, when this node makes the cluster's data. */
  readonly bootstrap: {
    readonly initdbOptions: readonly string[];
    readonly dataChecksums: boolean;
    readonly settings: Readonly<Record<string, unknown>>;
  };
  readonly basebackupOptions: readonly string[];
  /** A copy of this node comes from the archive where it can; absent = never. */
  readonly seedFromArchive?: boolean;
  /** Restores asked for from elsewhere go below this directory; null, absent = nowhere. */
  readonly restoreBelow?: string | null;
  /** Parameters of the node file: win over those of the cluster settings. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly restoreCommand: string | null;
  readonly recoveryMinApplyDelayMs: number | null;
  readonly startTimeoutMs: number;
  readonly stopTimeoutMs: number;
  /** Run before taking over from another holder; null = none. */
  readonly fenceCommand: { readonly command: readonly string[]; readonly timeoutMs: number } | null;
}

/** Where decisions and events are kept, and who hears of them. */
export interface Journal {
  decision(record: DecisionRecord): void;
  /** Completes the last decision of a rule with how it ended. */
  finish(
    at: WallTime,
    outcome: { readonly ok: boolean; readonly ms: number; readonly message: string | null },
  ): void;
  event(event: EventName, success: boolean, message: string, facts?: ClusterEvent["facts"]): void;
}

export type Log = (
  level: "debug" | "info" | "warn" | "error",
  event: string,
  fields?: Readonly<Record<string, unknown>>,
) => void;

/** The current cluster settings; the last good ones when the stored text is garbage. */
export type SettingsSource = () => ClusterSettings;

/** Everything the parts of one agent share: ports, and the few things that hold state. */
export interface AgentContext {
  readonly options: AgentOptions;
  readonly dcs: Dcs;
  readonly mirror: DcsMirror;
  readonly keeper: LeaseKeeper;
  readonly guard: GuardPort;
  readonly instance: PostgresInstance;
  readonly disk: DiskWatch;
  readonly notebook: Notebook;
  readonly secrets: SecretStore;
  readonly membership: Membership;
  readonly peers: Peers;
  readonly archive: ArchivePort;
  readonly suspicion: Suspicion;
  readonly durability: DurabilityKeeper;
  readonly failsafe: Failsafe;
  readonly files: StateFiles;
  readonly journal: Journal;
  readonly settings: SettingsSource;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  /** Asks for a round soon: a hint, as every wake-up. */
  readonly wake: () => void;
}

/** How long one call to the DCS may take, from the ttl. */
export function dcsTimeoutMs(ttlMs: number): number {
  return Math.max(500, ttlMs * 0.4);
}
