import { stat } from "node:fs/promises";
import { join } from "node:path";
import { Fault } from "../values/fault.ts";
import { parseLsn, type Lsn } from "../values/lsn.ts";
import { parseSystemIdentifier, parseTimeline, type Timeline } from "../values/names.ts";
import type { ControlData } from "./instance.ts";
import { program, type Installation } from "./options.ts";
import { lastLines, runProgram } from "./programs.ts";

/**
 * Reads the output of pg_controldata in the C locale.
 * @throws Fault PROGRAM_FAILED when a line that decisions need is missing
 */
export function parseControlData(output: string): ControlData {
  const lines = new Map<string, string>();
  for (const line of output.split("\n")) {
    const colon = line.indexOf(":");
    if (colon > 0) lines.set(line.slice(0, colon).trim(), line.slice(colon + 1).trim());
  }
  const take = <T>(name: string, read: (text: string) => T | undefined): T => {
    const text = lines.get(name);
    const value = text === undefined ? undefined : read(text);
    if (value === undefined)
      throw new Fault("PROGRAM_FAILED", "The output of pg_controldata cannot be understood", {
        detail: `Line "${name}" is ${text === undefined ? "missing" : `"${text}"`}.`,
        hint: "Check that bin_dir holds the programs of the data directory's major version.",
      });
    return value;
  };
  const minRecovery = take("Minimum recovery ending location", parseLsn);
  return {
    systemIdentifier: take("Database system identifier", parseSystemIdentifier),
    clusterState: take("Database cluster state", (text) => text),
    timeline: take("Latest checkpoint's TimeLineID", timeline),
    checkpointLsn: take("Latest checkpoint location", parseLsn),
    redoLsn: take("Latest checkpoint's REDO location", parseLsn),
    minRecoveryLsn: minRecovery === 0n ? null : minRecovery,
    minRecoveryTimeline: minRecoveryTimeline(lines.get("Min recovery ending loc's timeline")),
    dataChecksums: take("Data page checksum version", count) > 0,
    walLogHints: take("wal_log_hints setting", (text) => text) === "on",
    walSegmentBytes: take("Bytes per WAL segment", positive),
    maxConnections: take("max_connections setting", count),
    maxWorkerProcesses: take("max_worker_processes setting", count),
    maxWalSenders: take("max_wal_senders setting", count),
    maxPreparedTransactions: take("max_prepared_xacts setting", count),
    maxLocksPerTransaction: take("max_locks_per_xact setting", count),
  };
}

/**
 * Runs pg_controldata on a data directory.
 * @throws Fault BINARIES_MISSING, PROGRAM_FAILED, PROGRAM_TIMEOUT
 */
export async function readControlData(at: Installation, dataDir: string): Promise<ControlData> {
  const result = await runProgram(program(at, "pg_controldata"), ["-D", dataDir], {
    timers: at.timers,
    timeoutMs: at.timeouts.programMs,
  });
  if (result.code !== 0)
    throw new Fault("PROGRAM_FAILED", `pg_controldata cannot read ${dataDir}`, {
      detail: lastLines(result.stderr),
      hint: "The data directory may be damaged: restore it or set it aside so that it is copied anew.",
    });
  return parseControlData(result.stdout);
}

/** Reads the control data of one directory, running the program only when the control file has changed. */
export function controlDataReader(at: Installation): (dataDir: string) => Promise<ControlData> {
  let last: { readonly key: string; readonly control: ControlData } | null = null;
  return async (dataDir) => {
    const file = await stat(join(dataDir, "global/pg_control"), { bigint: true }).catch((error: unknown) => {
      throw new Fault("PROGRAM_FAILED", `${dataDir} has no readable control file`, {
        cause: error,
        hint: "The data directory may be damaged: restore it or set it aside so that it is copied anew.",
      });
    });
    const key = `${dataDir} ${file.dev} ${file.ino} ${file.mtimeNs}`;
    if (last?.key !== key) last = { key, control: await readControlData(at, dataDir) };
    return last.control;
  };
}

/** The position replay must at least have reached, or the last checkpoint: a lower bound for what is on disk. */
export function knownWalEnd(control: ControlData): Lsn {
  const least = control.minRecoveryLsn;
  return least !== null && least > control.checkpointLsn ? least : control.checkpointLsn;
}

function count(text: string): number | undefined {
  return /^[0-9]+$/.test(text) ? Number(text) : undefined;
}

/** Zero in a control file that is being written anew, as by pg_rewind: it is read again. */
function positive(text: string): number | undefined {
  return count(text) === 0 ? undefined : count(text);
}

function timeline(text: string): Timeline | undefined {
  return parseTimeline(Number(text));
}

function minRecoveryTimeline(text: string | undefined): Timeline | null {
  return text === undefined ? null : (timeline(text) ?? null);
}
