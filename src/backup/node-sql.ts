import type { BackupConnection } from "../config/backup-config.ts";
import { withSql, type SqlClient } from "../postgres/sql.ts";
import { Fault } from "../values/fault.ts";
import { Secret } from "../values/secret.ts";
import { certificateFault, readAuthority } from "./server-certificate.ts";

const connectMs = 3_000;
const queryMs = 30_000;
/** What the driver says of a server that answers TLS with no. */
const notEncrypted = "The server does not support SSL connections";

/** A server of a cluster, and as whom. */
interface NodeTarget {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  /** null = the server asks for none. */
  readonly password: Secret | null;
}

/**
 * Runs statements on a server of a cluster, connected to as the backup file says.
 * @throws Fault POSTGRES_*, CONFIG_UNREADABLE
 */
export async function withNodeSql<T>(
  { tls, database }: Pick<BackupConnection, "tls" | "database">,
  { password, ...node }: NodeTarget,
  work: (client: SqlClient) => Promise<T>,
): Promise<T> {
  const { host, port } = node;
  const target = {
    ...node,
    password: password ?? new Secret(""),
    database,
    applicationName: "pgherd backup",
    connectMs,
    queryMs,
  };
  // A unix socket is not encrypted by PostgreSQL.
  if (tls.mode === "disable" || host.startsWith("/")) return withSql(target, work);
  const ca = tls.caFile === null ? undefined : await readAuthority(tls.caFile);
  try {
    return await withSql({ ...target, ssl: { ca, rejectUnauthorized: tls.mode === "verify-full" } }, work);
  } catch (thrown) {
    const cause = thrown instanceof Fault ? thrown.cause : thrown;
    const isPlain = cause instanceof Error && cause.message === notEncrypted;
    if (isPlain && tls.mode === "prefer") return withSql(target, work);
    throw certificateFault(`${host}:${port}`, cause, tls.caFile) ?? thrown;
  }
}
