import { execFile } from "node:child_process";
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { runBaseBackup } from "../../src/backup/base/run-base.ts";
import type { BackupSummary, BaseJobOptions, JobProgress } from "../../src/backup/base/job-protocol.ts";
import { openCatalogue, type Catalogue } from "../../src/backup/catalogue/catalogue.ts";
import { openSettledRepository } from "../../src/backup/open.ts";
import type { StoredRepository } from "../../src/backup/repository/open.ts";
import type { BackupSettings } from "../../src/config/backup-config.ts";
import { loadBackupSettings } from "../../src/config/backup-file.ts";
import { systemClock } from "../../src/system/clock.ts";
import { systemRandom } from "../../src/system/random.ts";
import { systemTimers } from "../../src/system/timers.ts";
import { binDir, secrets, type TestPostgres } from "./postgres.ts";

const run = promisify(execFile);
const ports = { clock: systemClock, timers: systemTimers, random: systemRandom };
const plainCluster = "test";

/** One line of a job's log. */
interface Line {
  readonly event: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

export interface Made {
  readonly summary: BackupSummary;
  readonly lines: readonly Line[];
  readonly progress: readonly JobProgress[];
}

/** A repository in a directory, and a backup file that names servers without agents. */
export class BackupPlace {
  readonly file: string;
  readonly dir: string;
  readonly settings: BackupSettings;

  private constructor(dir: string, file: string, settings: BackupSettings) {
    this.dir = dir;
    this.file = file;
    this.settings = settings;
  }

  static async make(dir: string, servers: readonly TestPostgres[]): Promise<BackupPlace> {
    mkdirSync(dir, { recursive: true });
    const password = join(dir, "password");
    writeFileSync(password, secrets.replication.password.reveal(), { mode: 0o600 });
    const hosts = servers.map(({ port }) => `"127.0.0.1:${port}"`).join(", ");
    const { user } = secrets.replication;
    const connection = `connection: { hosts: [${hosts}], user: ${user}, password_file: ${password} }`;
    return BackupPlace.of(dir, [`cluster: ${plainCluster}`, connection]);
  }

  /** @param lines of the backup file that say of which cluster it is */
  static async of(dir: string, lines: readonly string[]): Promise<BackupPlace> {
    mkdirSync(dir, { recursive: true });
    const file = join(dir, "backup.yml");
    const places = [`repository: ${join(dir, "repo")}`, `state_dir: ${join(dir, "state")}`];
    writeFileSync(file, `${[...lines, ...places].join("\n")}\n`);
    return new BackupPlace(dir, file, await loadBackupSettings(file, {}));
  }

  get cluster(): string {
    return this.settings.clusters[0]?.cluster ?? "";
  }

  /** Makes one backup in this process. */
  async backup(
    how: Partial<BaseJobOptions> = {},
    seen: (progress: JobProgress) => void = () => undefined,
    signal = new AbortController().signal,
  ): Promise<Made> {
    const lines: Line[] = [];
    const progress: JobProgress[] = [];
    const summary = await runBaseBackup(
      {
        ...ports,
        settings: this.settings,
        log: (_level, event, fields = {}) => lines.push({ event, fields }),
        onProgress: (now) => {
          progress.push(now);
          seen(now);
        },
        signal,
      },
      this.options(how),
    );
    return { summary, lines, progress };
  }

  options(how: Partial<BaseJobOptions> = {}): BaseJobOptions {
    const usual = { type: "auto", from: "auto", maxRate: null, checkpoint: "fast" } as const;
    return { cluster: this.cluster, ...usual, label: null, reason: "test", ...how };
  }

  async withRepository<T>(
    work: (repository: StoredRepository, catalogue: Catalogue) => Promise<T>,
  ): Promise<T> {
    const repository = await openSettledRepository(this.settings.repository, ports);
    try {
      return await work(
        repository,
        await openCatalogue({ repository, cluster: this.cluster, log: () => undefined }),
      );
    } finally {
      await repository.close();
    }
  }

  /**
   * Writes a backup's files out, tablespaces below `to`-tablespaces, and lets PostgreSQL's own program compare them with
   * the manifest that was kept. @returns what the program said
   */
  async restoreAndVerify(id: string, to: string): Promise<string> {
    await this.withRepository(async (repository, catalogue) => {
      const { content, manifest } = catalogue.keysOf(id);
      const reader = await repository.openSnapshot(content);
      mkdirSync(to, { mode: 0o700 });
      // Links first: what is below them comes before them.
      const entries = [...reader.entries()].sort(
        (a, b) => Number(b.kind === "link") - Number(a.kind === "link"),
      );
      for (const entry of entries) {
        const path = join(to, entry.path);
        if (entry.kind === "directory") mkdirSync(path, { recursive: true, mode: entry.mode });
        else {
          const place = join(`${to}-tablespaces`, entry.path);
          mkdirSync(place, { recursive: true });
          mkdirSync(dirname(path), { recursive: true });
          symlinkSync(place, path);
        }
      }
      const open = new Map<string, number>();
      const fileOf = (path: string): number => {
        const known = open.get(path);
        if (known !== undefined) return known;
        mkdirSync(dirname(join(to, path)), { recursive: true });
        const file = openSync(join(to, path), "w", 0o600);
        open.set(path, file);
        return file;
      };
      await reader.extract({
        wanted: ({ path }) => fileOf(path) > 0,
        sink: {
          write: (path, position, data) => {
            writeSync(fileOf(path), data, 0, data.length, position);
            return Promise.resolve();
          },
        },
        parallel: 2,
        signal: new AbortController().signal,
      });
      for await (const { path, bytes } of reader.files()) ftruncateSync(fileOf(path), bytes);
      for (const file of open.values()) closeSync(file);
      writeFileSync(join(to, "backup_manifest"), (await repository.read(manifest)) ?? Buffer.alloc(0));
    });
    const { stdout } = await run(join(binDir, "pg_verifybackup"), ["--no-parse-wal", to]);
    return stdout;
  }
}
