import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import type { PostgresFacts, PostgresSettings, SqlFacts, Upstream } from "../../src/postgres/instance.ts";
import { createLocalPostgres, type LocalPostgres } from "../../src/postgres/local-instance.ts";
import type { LocalPostgresOptions } from "../../src/postgres/options.ts";
import { systemClock } from "../../src/system/clock.ts";
import { systemTimers } from "../../src/system/timers.ts";
import type { NodeName } from "../../src/values/names.ts";
import { Secret } from "../../src/values/secret.ts";
import { freePort } from "./ports.ts";
import { killProcessesUnder, makeTempDir, waitFor } from "./process.ts";

/** Debian's place of PostgreSQL 15; another may be given by PGHERD_TEST_BIN_DIR. */
export const binDir = process.env["PGHERD_TEST_BIN_DIR"] ?? "/usr/lib/postgresql/15/bin";

export const secrets = {
  superuser: { user: "postgres", password: new Secret("super secret: \\ '") },
  replication: { user: "pgherd_replication", password: new Secret("stream:secret") },
  rewind: { user: "pgherd_rewind", password: new Secret("rewind\\secret") },
};

export const plainSettings: PostgresSettings = {
  parameters: { shared_buffers: "16MB", fsync: "on" },
  synchronousStandbyNames: "",
  admission: "everyone",
  hba: null,
  restoreCommand: null,
  recoveryMinApplyDelayMs: null,
};

/** One PostgreSQL of a test: its adapter, where it is, and how others reach it. */
export interface TestPostgres {
  readonly node: string;
  readonly dir: string;
  readonly dataDir: string;
  readonly stateDir: string;
  readonly port: number;
  readonly events: { readonly event: string; readonly fields: Readonly<Record<string, unknown>> }[];
  readonly instance: LocalPostgres;
  /** A second adapter on the same installation: the agent after its restart. */
  again(): LocalPostgres;
  /** How `node` names itself when it streams from here. */
  asUpstream(node: string, slot?: string | null): Upstream;
  /** Runs one statement as superuser over the socket. */
  sql(text: string): Promise<Record<string, unknown>[]>;
  /** The facts once PostgreSQL answers. */
  facts(): Promise<SqlFacts>;
}

/** The servers of one test file in one directory. */
export interface TestPostgresSet {
  readonly dir: string;
  make(node: string, options?: Partial<LocalPostgresOptions>): Promise<TestPostgres>;
  /** Makes a node with a new cluster that runs as primary. */
  primary(node: string, settings?: PostgresSettings): Promise<TestPostgres>;
  /** Makes a node as a copy of another, streaming from it. */
  standby(node: string, source: TestPostgres, settings?: PostgresSettings): Promise<TestPostgres>;
  /** Ends every process and removes the directory. */
  remove(): Promise<void>;
}

/** Makes the directory; call `remove` at the end, whatever happened. */
export function postgresSet(label: string): TestPostgresSet {
  const temp = makeTempDir(label);
  const made: LocalPostgres[] = [];
  const make = async (node: string, options: Partial<LocalPostgresOptions> = {}): Promise<TestPostgres> => {
    const dir = mkdtempSync(join(temp.path, `${node}-`));
    const events: { event: string; fields: Readonly<Record<string, unknown>> }[] = [];
    const all: LocalPostgresOptions = {
      dataDir: join(dir, "data"),
      stateDir: join(dir, "state"),
      binDir,
      port: await freePort(),
      listenAddresses: "127.0.0.1",
      socketDir: join(dir, "s"),
      node: node as NodeName,
      clusterName: "test",
      secrets: () => secrets,
      clock: systemClock,
      timers: systemTimers,
      log: (event, fields) => events.push({ event, fields }),
      ...options,
    };
    const create = (): LocalPostgres => {
      const instance = createLocalPostgres(all);
      made.push(instance);
      return instance;
    };
    return testPostgres(node, dir, all, events, create);
  };
  return {
    dir: temp.path,
    make,
    primary: async (node, settings = plainSettings) => {
      const primary = await make(node);
      await primary.instance.bootstrap({ initdbOptions: ["--no-sync"], dataChecksums: true, settings });
      await primary.instance.startPrimary(settings, 30_000);
      return primary;
    },
    standby: async (node, source, settings = plainSettings) => {
      const standby = await make(node);
      await cloneFrom(standby, source, settings);
      await standby.instance.startStandby(source.asUpstream(node), settings, 30_000);
      await waitFor(async () => (await standby.facts()).walReceiver?.status === "streaming", {
        timeoutMs: 20_000,
        what: `${node} streams`,
      });
      return standby;
    },
    remove: async () => {
      for (const instance of made) instance.detach();
      await killProcessesUnder(temp.path);
      await temp.remove();
    },
  };
}

/** Copies `source` into a node. */
export async function cloneFrom(
  node: TestPostgres,
  source: TestPostgres,
  settings = plainSettings,
): Promise<void> {
  await node.instance.clone({
    source: source.asUpstream(node.node),
    settings,
    basebackupOptions: ["--no-sync"],
    signal: new AbortController().signal,
    onProgress: () => undefined,
  });
}

/** Waits until a standby has replayed all the primary has written. */
export async function caughtUp(standby: TestPostgres, primary: TestPostgres): Promise<void> {
  const { lsn } = await primary.facts();
  await waitFor(async () => ((await standby.facts()).replayedLsn ?? 0n) >= lsn, {
    timeoutMs: 30_000,
    what: `${standby.node} has replayed what ${primary.node} wrote`,
    everyMs: 10,
  });
}

/** The facts, which must be of this kind. */
export async function inspected<Kind extends PostgresFacts["kind"]>(
  instance: LocalPostgres,
  kind: Kind,
): Promise<Extract<PostgresFacts, { kind: Kind }>> {
  const facts = await instance.inspect();
  if (facts.kind !== kind)
    throw new Error(
      `expected ${kind}, found ${facts.kind} ${facts.kind === "unusable" ? facts.fault.stack : ""}`,
    );
  return facts as Extract<PostgresFacts, { kind: Kind }>;
}

/** Opens a session over TCP, as a client would; the caller ends it. */
export async function connectTo(postgres: TestPostgres, role = secrets.superuser): Promise<pg.Client> {
  const client = new pg.Client({
    host: "127.0.0.1",
    port: postgres.port,
    user: role.user,
    password: role.password.reveal(),
    database: "postgres",
  });
  client.on("error", () => undefined);
  await client.connect();
  return client;
}

function testPostgres(
  node: string,
  dir: string,
  options: LocalPostgresOptions,
  events: TestPostgres["events"],
  create: () => LocalPostgres,
): TestPostgres {
  const instance = create();
  const { dataDir, stateDir, port, socketDir } = options;
  return {
    node,
    dir,
    dataDir,
    stateDir,
    port,
    events,
    instance,
    again: create,
    asUpstream: (name, slot = null) => ({ host: "127.0.0.1", port, slot, applicationName: name }),
    sql: async (text) => {
      const client = new pg.Client({
        host: socketDir,
        port,
        user: "postgres",
        database: "postgres",
        password: secrets.superuser.password.reveal(),
      });
      client.on("error", () => undefined);
      await client.connect();
      try {
        return (await client.query<Record<string, unknown>>(text)).rows;
      } finally {
        await client.end();
      }
    },
    facts: async () => {
      const { sql, sqlProblem } = await inspected(instance, "running");
      if (sql === null) throw new Error(`PostgreSQL does not answer: ${sqlProblem}`);
      return sql;
    },
  };
}
