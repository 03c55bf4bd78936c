import { lstat, mkdir, open, readdir, readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import { openCatalogue } from "../../src/backup/catalogue/catalogue.ts";
import type { BackupRecord, TablespaceRecord } from "../../src/backup/catalogue/records.ts";
import { DirectoryStore } from "../../src/backup/repository/directory-store.ts";
import { createRepository, openRepository, type StoredRepository } from "../../src/backup/repository/open.ts";
import type { SnapshotWriter } from "../../src/backup/repository/repository.ts";
import type { RestoreSource } from "../../src/backup/restore/source.ts";
import { openArchive } from "../../src/backup/wal/open-archive.ts";
import { parseHistory } from "../../src/postgres/timelines.ts";
import { runProgram } from "../../src/postgres/programs.ts";
import { systemClock } from "../../src/system/clock.ts";
import { systemTimers } from "../../src/system/timers.ts";
import { parseLsn } from "../../src/values/lsn.ts";
import type { NodeName, SystemIdentifier, Timeline } from "../../src/values/names.ts";
import type { WallTime } from "../../src/values/time.ts";
import { binDir, secrets, type TestPostgres } from "./postgres.ts";

/** The name of the cluster in a test's repository. */
export const clusterName = "shop";
const segmentBytes = 16 * 1024 * 1024;
const log = (): void => undefined;

/** A repository in a directory, filled by hand from real servers: pg_basebackup, and segments out of their pg_wal. */
export interface BackupWorld {
  readonly path: string;
  readonly repository: StoredRepository;
  /** What the repository has now, read anew. */
  source(): Promise<RestoreSource>;
  /** Copies a server with pg_basebackup and stores the copy. */
  backup(from: TestPostgres, id: string, parent?: string): Promise<BackupRecord>;
  /** Ends the server's segment and archives everything it has whole, histories too. */
  archive(from: TestPostgres): Promise<void>;
  /** Archives the last segment of a timeline that was left inside it, up to the fork. */
  archiveEnd(from: TestPostgres, timeline: number, historyOf: TestPostgres): Promise<void>;
  /** Takes a segment out of the repository. */
  lose(name: string): Promise<void>;
  close(): Promise<void>;
}

export async function backupWorld(dir: string): Promise<BackupWorld> {
  const path = join(dir, "repository");
  await mkdir(path, { recursive: true });
  const options = { key: null, clock: systemClock, timers: systemTimers };
  await createRepository(new DirectoryStore(path), options);
  const repository = await openRepository(new DirectoryStore(path), options);
  const archive = () => openArchive({ repository, cluster: clusterName, clock: systemClock, log });
  const catalogue = () => openCatalogue({ repository, cluster: clusterName, log });
  return {
    path,
    repository,
    source: async () => ({
      repository,
      catalogue: await catalogue(),
      archive: await archive(),
      current: null,
      completeUntil: null,
      live: () => Promise.resolve([]),
    }),
    backup: async (from, id, parent) => {
      const copy = join(dir, `copy-${id}`);
      const startedAt = systemClock.wall();
      const result = await runProgram(
        join(binDir, "pg_basebackup"),
        [
          "-D",
          copy,
          "-Fp",
          "-Xnone",
          "-cfast",
          "-h",
          "127.0.0.1",
          "-p",
          String(from.port),
          "-U",
          secrets.replication.user,
          ...mappings(copy, await tablespacesOf(from)),
        ],
        {
          timers: systemTimers,
          timeoutMs: 120_000,
          env: { PGPASSWORD: secrets.replication.password.reveal() },
        },
      );
      if (result.code !== 0) throw new Error(result.stderr);
      const open = await catalogue();
      const keys = open.keysOf(id);
      const parentKey = parent === undefined ? null : open.keysOf(parent).content;
      const writer = await repository.beginSnapshot({ key: keys.content, parent: parentKey });
      await storeTree(writer, copy, "");
      const summary = await writer.finish();
      const manifest = await readFile(join(copy, "backup_manifest"));
      await repository.write(keys.manifest, manifest);
      const facts = await recordFacts(from, manifest.toString("utf8"), copy);
      const record: BackupRecord = {
        id,
        cluster: clusterName,
        kind: parent === undefined ? "full" : "incremental",
        parent: parent ?? null,
        state: "done",
        startedAt,
        endedAt: systemClock.wall(),
        source: from.node as NodeName,
        sourceRole: "primary",
        walSegmentBytes: segmentBytes,
        checksums: true,
        bytes: summary.bytes,
        storedBytes: summary.storedBytes,
        corruptPages: 0,
        corruptExamples: [],
        keep: null,
        label: null,
        error: null,
        ...facts,
      };
      await open.put(record);
      return record;
    },
    archive: async (from) => {
      const [row] = await from.sql("select pg_walfile_name(pg_switch_wal()) as last");
      const last = String(row?.["last"]);
      const to = await archive();
      const walDir = join(from.dataDir, "pg_wal");
      for (const name of (await readdir(walDir)).sort())
        if (/^[0-9A-F]{8}\.history$/.test(name))
          await to.storeHistory(
            parseInt(name, 16) as Timeline,
            await readFile(join(walDir, name), "utf8"),
            null,
          );
      for (const name of (await readdir(walDir)).sort()) {
        if (!/^[0-9A-F]{24}$/.test(name) || name.slice(0, 8) !== last.slice(0, 8) || name > last) continue;
        await to.store({ name, bytes: await readFile(join(walDir, name)), token: null, source: "by hand" });
      }
      await to.close();
    },
    archiveEnd: async (from, timeline, historyOf) => {
      const text = await readFile(join(historyOf.dataDir, "pg_wal", `${hex8(timeline + 1)}.history`), "utf8");
      const fork = parseHistory(text).at(-1)?.endLsn ?? 0n;
      const number = Number(fork / BigInt(segmentBytes));
      const name = hex8(timeline) + hex8(Math.floor(number / 256)) + hex8(number % 256);
      const bytes = (await readFile(join(from.dataDir, "pg_wal", name))).subarray(
        0,
        Number(fork % BigInt(segmentBytes)),
      );
      const to = await archive();
      await to.storePartial({ name, bytes, token: null, source: "by hand" });
      await to.close();
    },
    lose: async (name) => {
      for await (const { key } of repository.store.list(`clusters/${clusterName}/wal/`))
        if (key.includes(name)) await repository.store.delete(key);
      for await (const { key } of repository.store.list(`clusters/${clusterName}/wal/index/`))
        await repository.store.delete(key);
    },
    close: () => repository.close(),
  };
}

/** Stores every file below a directory but the WAL, links of tablespaces followed. */
async function storeTree(writer: SnapshotWriter, root: string, below: string): Promise<void> {
  for (const name of (await readdir(join(root, below))).sort()) {
    const path = below === "" ? name : `${below}/${name}`;
    if (path === "backup_manifest") continue;
    const found = await lstat(join(root, path));
    if (found.isSymbolicLink()) {
      writer.addEntry({ kind: "link", path, target: await readlink(join(root, path)) });
      await storeTree(writer, root, path);
    } else if (found.isDirectory()) {
      writer.addEntry({ kind: "directory", path, mode: found.mode & 0o777 });
      if (path !== "pg_wal") await storeTree(writer, root, path);
    } else {
      await writer.beginFile({
        path,
        mode: found.mode & 0o777,
        modifiedAt: Math.floor(found.mtimeMs / 1000),
      });
      const file = await open(join(root, path), "r");
      for (const buffer = Buffer.alloc(1_048_576); ;) {
        const { bytesRead } = await file.read(buffer, 0, buffer.length, null);
        if (bytesRead === 0) break;
        await writer.write(Buffer.from(buffer.subarray(0, bytesRead)));
      }
      await file.close();
      await writer.endFile();
    }
  }
}

async function tablespacesOf(from: TestPostgres): Promise<readonly TablespaceRecord[]> {
  const rows = await from.sql(
    "select oid::int as oid, pg_tablespace_location(oid) as location, pg_tablespace_size(oid)::int as bytes from pg_tablespace where oid > 16000",
  );
  return rows.map((row) => ({
    oid: Number(row["oid"]),
    location: String(row["location"]),
    bytes: Number(row["bytes"]),
  }));
}

function mappings(copy: string, tablespaces: readonly TablespaceRecord[]): readonly string[] {
  return tablespaces.map(({ oid, location }) => `--tablespace-mapping=${location}=${copy}-${oid}`);
}

async function recordFacts(from: TestPostgres, manifest: string, copy: string) {
  const range = (
    JSON.parse(manifest) as { readonly "WAL-Ranges": readonly Readonly<Record<string, unknown>>[] }
  )["WAL-Ranges"][0];
  const startLsn = parseLsn(String(range?.["Start-LSN"]));
  const stopLsn = parseLsn(String(range?.["End-LSN"]));
  if (startLsn === undefined || stopLsn === undefined) throw new Error("the manifest names no WAL");
  const control = await readFile(join(copy, "global/pg_control"));
  const timeline = Number(range?.["Timeline"]) as Timeline;
  return {
    systemIdentifier: String(control.readBigUInt64LE(0)) as SystemIdentifier,
    serverVersion: Number((await from.sql("show server_version_num"))[0]?.["server_version_num"]),
    timeline,
    stopTimeline: timeline,
    startLsn,
    stopLsn,
    tablespaces: await tablespacesOf(from),
  };
}

/** The moment on a server's clock, to the microsecond. */
export async function momentOf(server: TestPostgres): Promise<WallTime> {
  const [row] = await server.sql(
    `select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at`,
  );
  return String(row?.["at"]) as WallTime;
}

function hex8(value: number): string {
  return value.toString(16).toUpperCase().padStart(8, "0");
}
