import pg from "pg";
import { Fault } from "../values/fault.ts";
import type { Secret } from "../values/secret.ts";
import type { Installation, PostgresRoleSecret } from "./options.ts";
import type { Upstream } from "./instance.ts";
import { readPostmasterFile } from "./processes.ts";

/** Where and as whom to connect. A host that begins with "/" is the directory of a unix socket. */
export interface SqlTarget {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: Secret;
  readonly applicationName: string;
  readonly connectMs: number;
  readonly queryMs: number;
  /** `postgres` by default. */
  readonly database?: string;
  /** Encrypted, or not at all; by default it is not. */
  readonly ssl?: { readonly ca: string | undefined; readonly rejectUnauthorized: boolean };
  /** Speak the replication protocol instead of SQL. */
  readonly replication?: boolean;
}

/** An open connection. Whoever opens it closes it. */
export type SqlClient = pg.Client;

/** The local server over its unix socket, as superuser; a server somebody else started is found by its own file. */
export function localTarget(at: Installation, queryMs: number): SqlTarget {
  const running = readPostmasterFile(at.dataDir);
  return {
    host: running?.socketDir ?? at.socketDir,
    port: running?.port ?? at.port,
    ...at.secrets().superuser,
    applicationName: "pgherd",
    connectMs: at.timeouts.connectMs,
    queryMs,
  };
}

/** Another server of the cluster, over TCP. */
export function remoteTarget(at: Installation, source: Upstream, role: PostgresRoleSecret): SqlTarget {
  return {
    host: source.host,
    port: source.port,
    ...role,
    applicationName: "pgherd",
    connectMs: at.timeouts.connectMs,
    queryMs: at.timeouts.statementMs,
  };
}

/**
 * Connects. The session waits for nobody else's settings: no statement, lock or idle limits, commits acknowledged locally.
 * @throws Fault POSTGRES_UNREACHABLE, POSTGRES_AUTHENTICATION, TOO_FEW_WALSENDERS
 */
export async function openSql(target: SqlTarget): Promise<SqlClient> {
  const settings = {
    host: target.host,
    port: target.port,
    user: target.user,
    password: target.password.reveal(),
    database: target.database ?? "postgres",
    ...(target.ssl === undefined ? {} : { ssl: target.ssl }),
    application_name: target.applicationName,
    connectionTimeoutMillis: target.connectMs,
    query_timeout: target.queryMs,
    keepAlive: true,
    ...(target.replication === true ? { replication: "true" } : { options: "-c synchronous_commit=local" }),
  };
  const client = new pg.Client(settings);
  // Without a listener the end of the server would end this process.
  client.on("error", () => undefined);
  try {
    await client.connect();
    return client;
  } catch (error) {
    destroySql(client);
    throw connectFault(error, target);
  }
}

/** Ends a connection at once, whatever it is doing: after a time limit nothing else is safe (`pg` keeps the old query). */
export function destroySql(client: SqlClient): void {
  const { stream } = client.connection as unknown as { readonly stream: { destroy(): void } };
  stream.destroy();
}

/**
 * Opens a connection, does the work, closes it.
 * @throws Fault as openSql does, and POSTGRES_QUERY_FAILED for what the server refused
 */
export async function withSql<T>(target: SqlTarget, work: (client: SqlClient) => Promise<T>): Promise<T> {
  const client = await openSql(target);
  try {
    return await work(client);
  } catch (error) {
    throw queryFault(error);
  } finally {
    destroySql(client);
  }
}

/** One row of a query that always has one. @throws Fault POSTGRES_QUERY_FAILED */
export async function oneRow(
  client: SqlClient,
  text: string,
  values: readonly unknown[] = [],
): Promise<Readonly<Record<string, unknown>>> {
  const result = await client.query<Record<string, unknown>>(text, [...values]);
  const [row] = result.rows;
  if (row === undefined)
    throw new Fault("POSTGRES_QUERY_FAILED", "A query that always has a row had none", { detail: text });
  return row;
}

/** The server's code of an error (SQLSTATE), or null when it did not come from a server. */
export function sqlState(error: unknown): string | null {
  if (error instanceof Fault) return sqlState(error.cause);
  return error instanceof pg.DatabaseError ? (error.code ?? null) : null;
}

/** An error of a statement as a fault with the server's own words. */
export function queryFault(error: unknown): Fault {
  if (error instanceof Fault) return error;
  const text = error instanceof Error ? error.message : String(error);
  if (error instanceof pg.DatabaseError)
    return new Fault("POSTGRES_QUERY_FAILED", `PostgreSQL refused a statement: ${text}`, {
      ...(error.detail === undefined ? {} : { detail: error.detail }),
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      cause: error,
    });
  return new Fault("POSTGRES_UNREACHABLE", "The connection to PostgreSQL was lost", {
    detail: text,
    cause: error,
  });
}

function connectFault(error: unknown, target: SqlTarget): Fault {
  const where = target.host.startsWith("/")
    ? `the socket in ${target.host}, port ${target.port}`
    : `${target.host}:${target.port}`;
  const detail = `${where}: ${error instanceof Error ? error.message : String(error)}`;
  const state = sqlState(error);
  if (state === "28P01" || state === "28000")
    return new Fault("POSTGRES_AUTHENTICATION", `PostgreSQL refused the role "${target.user}"`, {
      detail,
      hint: "Check that the cluster's secrets are the same on every node, and that pg_hba.conf lets this role in.",
      cause: error,
    });
  if (state === "53300" && target.replication === true)
    return new Fault("TOO_FEW_WALSENDERS", "The source has no free WAL sender", {
      detail,
      hint: "Raise max_wal_senders on the source, or end a replication connection.",
      cause: error,
    });
  return new Fault("POSTGRES_UNREACHABLE", "PostgreSQL does not answer", { detail, cause: error });
}
