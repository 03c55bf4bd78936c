import { userInfo } from "node:os";
import { join } from "node:path";
import type { Clock } from "../system/clock.ts";
import type { Timers } from "../system/timers.ts";
import { Fault } from "../values/fault.ts";
import type { NodeName } from "../values/names.ts";
import type { Secret } from "../values/secret.ts";

/** One role of the database and its password. */
export interface PostgresRoleSecret {
  readonly user: string;
  readonly password: Secret;
}

/** The roles pgherd works with: each has the least rights its work needs (README). */
export interface PostgresSecrets {
  readonly superuser: PostgresRoleSecret;
  readonly replication: PostgresRoleSecret;
  readonly rewind: PostgresRoleSecret;
}

/** Limits on outside calls, in milliseconds. Work with its own limit (copies, rewinds) is ended by its signal. */
export interface PostgresTimeouts {
  /** One monitoring query. */
  readonly probeMs: number;
  /** Making a connection. */
  readonly connectMs: number;
  /** One statement of administration. */
  readonly statementMs: number;
  /** One short program, such as pg_controldata. */
  readonly programMs: number;
  /** One long program: initdb, single-user recovery, reading of WAL. */
  readonly longProgramMs: number;
}

/** Limits that suit a healthy machine and still end on a sick one. */
const defaultPostgresTimeouts: PostgresTimeouts = {
  probeMs: 800,
  connectMs: 2_000,
  statementMs: 5_000,
  programMs: 3_000,
  longProgramMs: 600_000,
};

/** What makes one local PostgreSQL. Directories are absolute. */
export interface LocalPostgresOptions {
  readonly dataDir: string;
  /** pgherd's own files for this instance; outside the data directory, on a disk that survives a restart. */
  readonly stateDir: string;
  /** Where the programs of PostgreSQL are. */
  readonly binDir: string;
  /** Where the user's own postgresql.conf, pg_hba.conf and pg_ident.conf are; the data directory by default. */
  readonly configDir?: string;
  readonly port: number;
  readonly listenAddresses: string;
  /** Directory of the unix socket; the whole path of the socket may not pass 107 bytes. */
  readonly socketDir: string;
  readonly node: NodeName;
  readonly clusterName: string;
  readonly secrets: () => PostgresSecrets;
  readonly timeouts?: Partial<PostgresTimeouts>;
  readonly clock: Clock;
  readonly timers: Timers;
  /** Records an event with a stable dotted name; never carries secrets. */
  readonly log: (event: string, fields: Readonly<Record<string, unknown>>) => void;
}

/** The options with everything derived from them: what the modules of this folder work on. */
export interface Installation extends LocalPostgresOptions {
  readonly configDir: string;
  readonly timeouts: PostgresTimeouts;
  /** The operating system's name of the user this process runs as; null when it has none. */
  readonly osUser: string | null;
  readonly files: {
    readonly configuration: string;
    readonly hba: string;
    readonly ident: string;
    /** Passwords for pg_basebackup, pg_rewind and other tools. */
    readonly toolPassfile: string;
    /** The WAL receiver's password: taken away by itself when the node may no longer receive (F2). */
    readonly receiverPassfile: string;
    readonly log: string;
    /** Who the postmaster is that this installation started. */
    readonly postmaster: string;
    readonly upstream: string;
    readonly slots: string;
    /** Which synchronous_standby_names every process of the running server is known to have. */
    readonly synchronous: string;
    /** How far the data has come. */
    readonly highWater: string;
    /** There while pg_rewind changes the data directory: such a directory must not be started. */
    readonly rewinding: string;
    readonly keptConfig: string;
    readonly discardedWal: string;
  };
}

/**
 * Completes the options.
 * @throws Fault CONFIG_INVALID when the path of the socket is too long for the operating system
 */
export function installation(options: LocalPostgresOptions): Installation {
  const socket = join(options.socketDir, `.s.PGSQL.${options.port}`);
  if (Buffer.byteLength(socket) > 107)
    throw new Fault("CONFIG_INVALID", "The path of PostgreSQL's unix socket is too long", {
      detail: `${socket} has ${Buffer.byteLength(socket)} bytes, the limit is 107.`,
      hint: "Choose a shorter directory for the socket.",
    });
  const file = (name: string): string => join(options.stateDir, name);
  return {
    ...options,
    configDir: options.configDir ?? options.dataDir,
    timeouts: { ...defaultPostgresTimeouts, ...options.timeouts },
    osUser: currentUser(),
    files: {
      configuration: file("postgresql.conf"),
      hba: file("pg_hba.conf"),
      ident: file("pg_ident.conf"),
      toolPassfile: file("passfile"),
      receiverPassfile: file("receiver.passfile"),
      log: file("log/postgres.log"),
      postmaster: file("postmaster.json"),
      upstream: file("upstream.json"),
      slots: file("slots.json"),
      synchronous: file("synchronous.json"),
      highWater: file("high-water.json"),
      rewinding: file("rewinding"),
      keptConfig: file("kept-config"),
      discardedWal: file("discarded-wal"),
    },
  };
}

/** The path of a program of PostgreSQL. */
export function program(at: Installation, name: string): string {
  return join(at.binDir, name);
}

function currentUser(): string | null {
  try {
    return userInfo().username;
  } catch {
    return null; // a container may run under a number without a name
  }
}
