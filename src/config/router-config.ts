import type { NodeName } from "../values/names.ts";
import type { CommandConfig, DcsConfig } from "./node-config.ts";

/** The router file with everything derived: camelCase, milliseconds and bytes, absolute paths. */
export interface RouterSettings {
  readonly cluster: string;
  /** Without slashes at its ends. */
  readonly namespace: string;
  /** Unique among the routers of the cluster. */
  readonly router: string;
  /** Host name or IP address under which others reach this host; IPv6 without brackets. */
  readonly address: string;
  readonly location: string | null;
  readonly dcs: DcsConfig;
  readonly stateDir: string;
  readonly listeners: readonly ListenerSettings[];
  readonly tls: ClientTlsSettings;
  readonly backendTls: BackendTlsSettings;
  /** In order, the first that matches decides; none = SCRAM for everybody. */
  readonly access: readonly AccessRule[];
  readonly limits: RouterLimits;
  readonly timeouts: RouterTimeouts;
  /** How long clients wait for the archive after a failover; null = they do not, undefined = as the cluster's settings say. */
  readonly openAfterArchiveMs: number | null | undefined;
  readonly admin: AdminSettings;
  readonly metrics: MetricsSettings;
  readonly vips: readonly VipSettings[];
  readonly agents: AgentAccess;
  readonly log: {
    readonly level: "trace" | "debug" | "info" | "warn" | "error";
    readonly format: "auto" | "json" | "pretty";
  };
}

export type ListenerTarget = "primary" | "standby" | "any";
export type ListenerPath = "session" | "stream" | "kernel";

/** One address applications connect to. */
export interface ListenerSettings {
  readonly name: string;
  readonly target: ListenerTarget;
  readonly path: ListenerPath;
  /** A host name or IP address; `*` = every address, IPv4 and IPv6. */
  readonly listen: string;
  readonly port: number;
  /** The most clients at once; null = only `limits` bound them. */
  readonly clients: number | null;
  /** Standbys further behind get no new clients until they are back below half of it; null = no limit. */
  readonly lagLimitBytes: number | null;
  /** Where clients go when no standby is fit. */
  readonly fallback: "primary" | "none";
  readonly sameLocationFirst: boolean;
  readonly proxyProtocol: boolean;
  /** Networks in CIDR form from which a PROXY header is believed. */
  readonly proxyFrom: readonly string[];
  readonly tls: ClientTlsSettings;
  /** null = idle sessions are kept. */
  readonly idleMs: number | null;
  readonly kernel: KernelPathSettings;
}

/** Of path `kernel` alone. */
export interface KernelPathSettings {
  /** Without the capability or the tools: pass the bytes in the router, or refuse to start. */
  readonly fallback: "stream" | "none";
  /** The servers see this host's address instead of the client's. */
  readonly masquerade: boolean;
  /** check: say which kernel settings are missing. set: set them. */
  readonly sysctls: "check" | "set";
}

/** TLS towards clients. */
export interface ClientTlsSettings {
  readonly mode: "disable" | "allow" | "require";
  /** null = generated, kept in the state directory. */
  readonly certFile: string | null;
  readonly keyFile: string | null;
  /** Client certificates are asked for and verified against it; null = not asked for. */
  readonly clientCaFile: string | null;
}

/** TLS towards PostgreSQL. */
export interface BackendTlsSettings {
  readonly mode: "disable" | "prefer" | "require" | "verify-full";
  readonly caFile: string | null;
}

export type AccessMethod = "scram-sha-256" | "md5" | "trust" | "cert" | "reject";

/** Who may come in, and how that is proven. */
export interface AccessRule {
  /** Names, or `all`; `replication` matches replication connections, which `all` does not. */
  readonly databases: readonly string[];
  /** Names, or `all`. */
  readonly users: readonly string[];
  /** Networks in CIDR form, or `all`. */
  readonly addresses: readonly string[];
  readonly tls: "any" | "required";
  readonly method: AccessMethod;
  /** `cert`: which user a certificate's common name may be; null = the one of the same name. */
  readonly map: ReadonlyMap<string, readonly string[]> | null;
}

export interface RouterLimits {
  readonly clients: number;
  /** null = no limit of its own. */
  readonly perUser: number | null;
  readonly perDatabase: number | null;
  readonly perNode: number | null;
  /** Clients that may wait for a place on a node. */
  readonly queue: number;
  readonly queueTimeoutMs: number;
  /** Connections whose start-up is not over. */
  readonly starting: number;
}

export interface RouterTimeouts {
  /** Until a server has accepted the connection. */
  readonly connectMs: number;
  /** Of a client's whole start-up, TLS and authentication included. */
  readonly startupMs: number;
  /** How long a client is held while nobody serves. */
  readonly holdMs: number;
  /** null = idle sessions are kept. */
  readonly idleMs: number | null;
  /** How long transactions may go on when the router is told to end or a node is drained. */
  readonly stopMs: number;
  /** How long clients may stay on a process that was replaced by another. */
  readonly upgradeMs: number;
}

/** The console for people: the database `pgherd` on every listener, and a port of its own. */
export interface AdminSettings {
  readonly listen: string;
  readonly port: number;
  /** Users of PostgreSQL that may log in to it. */
  readonly users: readonly string[];
}

/** Metrics and the router's own HTTP paths. */
export interface MetricsSettings {
  readonly listen: string;
  readonly port: number;
}

/** A virtual address this host may hold. */
export interface VipSettings {
  /** Key of its lock in the DCS, derived from the address when not named. */
  readonly name: string;
  /** IPv4 or IPv6, without the prefix length. */
  readonly address: string;
  readonly prefixLength: number;
  readonly interface: string;
  /** leader: on the host of the primary. router: on one healthy router, by a lock in the DCS. */
  readonly bind: "leader" | "router";
  /** The node that runs on this host (`bind: leader`); null = the one with this host's address. */
  readonly node: NodeName | null;
  /** The highest healthy router holds it. */
  readonly priority: number;
  /** Whether a router of higher priority takes it from a healthy holder. */
  readonly preempt: boolean;
  /** How long the lock outlives its last renewal. */
  readonly lockMs: number;
  /** How long the kernel keeps the address at most without being told again, whole seconds; less where the lock ends before. */
  readonly lifetimeMs: number;
  /** Whether somebody else on the network is asked for before an unplanned take-over. */
  readonly duplicateCheck: boolean;
  /** Programs that move the address by other means (a cloud's API) instead of `ip`; null = `ip`. */
  readonly commands: {
    readonly acquire: CommandConfig;
    readonly release: CommandConfig;
    readonly verify: CommandConfig | null;
  } | null;
  readonly notify: {
    readonly gained: CommandConfig | null;
    readonly lost: CommandConfig | null;
    readonly fault: CommandConfig | null;
  };
}

/** How the agents' API is reached. */
export interface AgentAccess {
  /** Vouches for agents that serve HTTPS, besides the authorities every program trusts; null = nothing of its own. */
  readonly caFile: string | null;
}
