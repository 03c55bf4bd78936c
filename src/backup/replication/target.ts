import type { BackendTlsSettings } from "../../config/router-config.ts";
import type { Secret } from "../../values/secret.ts";

/** A server to speak the replication protocol to, and as whom. A host that begins with "/" is the directory of a unix socket. */
export interface ReplicationTarget {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  /** null = the server asks for none. */
  readonly password: Secret | null;
  /** How pg_stat_replication shows the connection; at most 63 characters. */
  readonly applicationName: string;
  readonly tls: BackendTlsSettings;
  /** Until the server has let us in: connection, TLS and login, each. */
  readonly connectMs: number;
  /** Much will come and be taken in pieces: it is read to the same memory again and again. */
  readonly bulk?: boolean;
  /** Settings of the session, such as `wal_sender_timeout`; one the server does not know ends the login. */
  readonly settings?: Readonly<Record<string, string>>;
}

/** For people and logs: `10.0.0.11:5432`. */
export function describeTarget(target: Pick<ReplicationTarget, "host" | "port">): string {
  if (target.host.startsWith("/")) return `the socket in ${target.host}, port ${target.port}`;
  return target.host.includes(":") ? `[${target.host}]:${target.port}` : `${target.host}:${target.port}`;
}
