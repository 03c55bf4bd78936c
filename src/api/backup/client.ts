import { readFile } from "node:fs/promises";
import type {
  BackupServerView,
  BackupView,
  CheckItem,
  ClusterBackupStatus,
  DeletedBackup,
  Forecast,
  JobView,
  RestorePointView,
  WalSwitchView,
  WalView,
} from "../../backup/service.ts";
import type { DrillRecord, SegmentRecord } from "../../backup/catalogue/records.ts";
import { Fault, toFault } from "../../values/fault.ts";
import type { Secret } from "../../values/secret.ts";
import { askOnce } from "../client-request.ts";
import { fromWire, type Wire } from "../wire.ts";

/** What a backup server tells of itself in one object. */
export interface ServerOverview {
  readonly server: BackupServerView;
  readonly clusters: readonly ClusterBackupStatus[];
  readonly jobs: readonly JobView[];
}

/** What a base backup is asked for with. */
export interface BaseRequest {
  readonly kind: "base";
  readonly type: "auto" | "full";
  readonly from: "auto" | "primary" | "standby" | { readonly node: string };
  readonly max_rate: number | null;
  readonly checkpoint: "fast" | "spread";
  readonly label: string | null;
}

/** A job as a client asks for it. */
export type AskedJob =
  | BaseRequest
  | { readonly kind: "verify" | "drill"; readonly backup: string | null }
  | { readonly kind: "collect"; readonly dry_run: boolean };

/** Reads of one cluster: over HTTP, or on the repository itself. */
export interface BackupReader {
  /** For people. */
  readonly source: string;
  overview(): Promise<Wire<ServerOverview>>;
  status(): Promise<Wire<ClusterBackupStatus>>;
  backups(): Promise<readonly Wire<BackupView>[]>;
  backup(name: string): Promise<Wire<BackupView>>;
  wal(): Promise<Wire<WalView>>;
  /** The last ones. */
  segments(limit: number): Promise<readonly Wire<SegmentRecord>[]>;
  drills(): Promise<readonly Wire<DrillRecord>[]>;
  forecast(): Promise<Wire<Forecast>>;
  check(): Promise<readonly Wire<CheckItem>[]>;
  expired(): Promise<readonly Wire<BackupView>[]>;
  close(): Promise<void>;
}

export interface BackupClientOptions {
  /** Without a slash at its end. */
  readonly url: string;
  readonly cluster: string;
  readonly token: Secret | null;
  /** Authorities that vouch for the server; null = the system's. */
  readonly caFile: string | null;
}

const connectMs = 3_000;
const timeoutMs = 15_000;

/** The API of a backup server for one of its clusters. Every method throws the server's faults, and API_UNREACHABLE. */
export class BackupClient implements BackupReader {
  readonly source: string;
  readonly #options: BackupClientOptions;
  #authorities: Promise<string | null> | null = null;

  constructor(options: BackupClientOptions) {
    this.#options = options;
    this.source = options.url;
  }

  async overview(): Promise<Wire<ServerOverview>> {
    return (await this.#ask("GET", "/v1/status")) as Wire<ServerOverview>;
  }

  async status(): Promise<Wire<ClusterBackupStatus>> {
    return (await this.#ask("GET", this.#path("status"))) as Wire<ClusterBackupStatus>;
  }

  async backups(): Promise<readonly Wire<BackupView>[]> {
    return (await this.#ask("GET", this.#path("backups"))) as readonly Wire<BackupView>[];
  }

  async backup(name: string): Promise<Wire<BackupView>> {
    return (await this.#ask("GET", this.#backup(name))) as Wire<BackupView>;
  }

  async wal(): Promise<Wire<WalView>> {
    return (await this.#ask("GET", this.#path("wal"))) as Wire<WalView>;
  }

  async segments(limit: number): Promise<readonly Wire<SegmentRecord>[]> {
    const path = this.#path(`wal/segments?limit=${limit}`);
    return (await this.#ask("GET", path)) as readonly Wire<SegmentRecord>[];
  }

  async drills(): Promise<readonly Wire<DrillRecord>[]> {
    return (await this.#ask("GET", this.#path("drills"))) as readonly Wire<DrillRecord>[];
  }

  async forecast(): Promise<Wire<Forecast>> {
    return (await this.#ask("GET", this.#path("forecast"))) as Wire<Forecast>;
  }

  async check(): Promise<readonly Wire<CheckItem>[]> {
    return (await this.#ask("GET", this.#path("check"))) as readonly Wire<CheckItem>[];
  }

  async expired(): Promise<readonly Wire<BackupView>[]> {
    return (await this.#ask("GET", this.#path("expired"))) as readonly Wire<BackupView>[];
  }

  async job(id: string): Promise<Wire<JobView>> {
    return (await this.#ask("GET", `/v1/jobs/${encodeURIComponent(id)}`)) as Wire<JobView>;
  }

  async start(job: AskedJob): Promise<Wire<JobView>> {
    return (await this.#ask("POST", this.#path("jobs"), job)) as Wire<JobView>;
  }

  async cancel(id: string): Promise<Wire<JobView>> {
    return (await this.#ask("DELETE", `/v1/jobs/${encodeURIComponent(id)}`)) as Wire<JobView>;
  }

  async delete(name: string, dryRun: boolean): Promise<Wire<DeletedBackup>> {
    const path = `${this.#backup(name)}?dry_run=${dryRun}`;
    return (await this.#ask("DELETE", path, undefined, 10 * timeoutMs)) as Wire<DeletedBackup>;
  }

  /** null = leaves it to retention again. */
  async keep(name: string, how: "full" | "standalone" | null): Promise<Wire<BackupView>> {
    const path = `${this.#backup(name)}/keep`;
    const answer = how === null ? this.#ask("DELETE", path) : this.#ask("PUT", path, { how });
    return (await answer) as Wire<BackupView>;
  }

  async point(name: string): Promise<Wire<RestorePointView>> {
    return (await this.#ask("POST", this.#path("points"), { name })) as Wire<RestorePointView>;
  }

  async walSwitch(archiveWithinMs: number | null): Promise<Wire<WalSwitchView>> {
    const body = { archive_within_s: archiveWithinMs === null ? null : archiveWithinMs / 1000 };
    const limit = timeoutMs + 30_000 + (archiveWithinMs ?? 0);
    return (await this.#ask("POST", this.#path("wal/switch"), body, limit)) as Wire<WalSwitchView>;
  }

  async walReset(): Promise<void> {
    await this.#ask("POST", this.#path("wal/reset"), {});
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  #path(rest: string): string {
    return `/v1/clusters/${encodeURIComponent(this.#options.cluster)}/${rest}`;
  }

  #backup(name: string): string {
    return this.#path(`backups/${encodeURIComponent(name)}`);
  }

  async #ask(method: string, path: string, body?: unknown, limitMs = timeoutMs): Promise<unknown> {
    const { url, token, caFile } = this.#options;
    this.#authorities ??= caFile === null ? Promise.resolve(null) : readAuthorities(caFile);
    const answer = await askOnce(url, {
      method,
      path,
      body: body === undefined ? null : JSON.stringify(body),
      token,
      authorities: await this.#authorities,
      connectMs,
      timeoutMs: limitMs,
    });
    if (answer.kind === "answered") return fromWire(answer.body);
    throw new Fault(
      answer.sent ? "TIMEOUT" : "API_UNREACHABLE",
      `The backup server at ${url} does not answer`,
      {
        detail: answer.reason,
        hint: "Is it running (pgherd backup serve)? On its host, --config BACKUP.yml reads the repository without it.",
      },
    );
  }
}

async function readAuthorities(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (thrown) {
    throw new Fault("CONFIG_UNREADABLE", `The file ${file} cannot be read`, {
      detail: toFault(thrown).message,
      hint: "It belongs to --ca-file.",
      cause: thrown,
    });
  }
}
