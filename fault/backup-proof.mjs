// Restores the newest state from the repository alone, starts it, and compares it with everything that was acknowledged so far.
import { chownSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { stringify } from "yaml";
import { killAllIn, nowMs } from "../bench/processes.mjs";
import { check } from "./check.mjs";

const restoreWithinMs = 900_000;

/**
 * @typedef {object} Proven
 * @property {string} backup the base backup that was restored @property {number} segments of WAL, on top of it
 * @property {number} timeline @property {number} seconds
 * @property {number} acknowledged rows so far @property {number} unknown rows so far whose outcome no client knows
 * @property {number} lost acknowledged and not there @property {number} duplicated @property {number} strange refused or never sent
 */

export class Proof {
  #site;
  #dir;
  /** The ledgers so far. */
  #runs = [];

  constructor(site) {
    this.#site = site;
    this.#dir = join(dirname(site.dir), "proofs");
  }

  /**
   * Adds a ledger and restores. The site must be dead: nothing but the repository is asked.
   * @returns {Promise<Proven>}
   */
  async of(run) {
    this.#runs.push(run);
    const to = join(this.#dir, "restored");
    const began = nowMs();
    const config = this.#file();
    const words = [
      "backup",
      "restore",
      "latest",
      "--to",
      to,
      "--start",
      "--yes",
      "--json",
      "--config",
      config,
    ];
    const report = JSON.parse(await this.#site.command(words, restoreWithinMs));
    try {
      const seconds = Number(((nowMs() - began) / 1000).toFixed(1));
      const { backup, segments, timeline } = report;
      return { backup, segments, timeline, seconds, ...(await this.compare(report.server.port)) };
    } finally {
      await killAllIn(to);
      rmSync(to, { recursive: true, force: true });
    }
  }

  /** The rows of a server beside all ledgers. @returns {Promise<Pick<Proven, "lost" | "duplicated" | "strange" | "acknowledged" | "unknown">>} */
  async compare(port) {
    const sum = { acknowledged: 0, unknown: 0, lost: 0, duplicated: 0, strange: 0 };
    for (const { run, entries, end } of this.#runs) {
      const rows = await this.#site.sqlAt(
        port,
        "select id::text as id, count(*)::int as count from fault_ledger where run = $1 group by id",
        [run],
      );
      const found = new Map(rows.map(({ id, count }) => [Number(id), count]));
      // No record excuses anything: commits waited for the archive all the time.
      const verdict = check({ entries, rows: found, records: [], mark: 0, end, ttlMs: 0 });
      for (const key of Object.keys(sum))
        sum[key] += Array.isArray(verdict[key]) ? verdict[key].length : verdict[key];
    }
    return sum;
  }

  /** A file that knows the repository and nothing else: no server, no DCS, no state. @returns its path */
  #file() {
    const { cluster, repository, runAs } = this.#site;
    mkdirSync(this.#dir, { recursive: true });
    const file = join(this.#dir, "backup.yml");
    const nowhere = { listen: "127.0.0.1", port: 1 };
    const content = {
      ...{ cluster, repository, address: "127.0.0.1", api: nowhere },
      state_dir: join(this.#dir, "state"),
      dcs: { etcd: ["127.0.0.1:1"] },
    };
    writeFileSync(file, stringify(content), { mode: 0o600 });
    if (runAs !== null) for (const path of [this.#dir, file]) chownSync(path, runAs.uid, runAs.gid);
    return file;
  }
}
