import { accessSync, constants, readdirSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { Fault } from "../values/fault.ts";
import type { Environment } from "./environment.ts";
import type { NodeConfig } from "./node-config.ts";

/** Where packages put the programs of one major version: Debian and Ubuntu, then Red Hat and its kin. */
const versionedDirs = [
  { parent: "/usr/lib/postgresql", name: /^(\d+)$/ },
  { parent: "/usr", name: /^pgsql-(\d+)$/ },
] as const;

/**
 * The directory of PostgreSQL's programs: the one that is set; else that of the data directory's version; else (no data
 * yet) the newest installed; else the first in PATH.
 * @throws Fault BINARIES_MISSING
 */
export function findBinDir(config: Pick<NodeConfig, "binDir" | "dataDir">, environment: Environment): string {
  if (config.binDir !== null) {
    if (hasPrograms(config.binDir)) return config.binDir;
    throw missing(`bin_dir ${config.binDir} has no program postgres that this user may run.`);
  }
  const version = dataVersion(config.dataDir);
  const installed = installedDirs().filter((one) => version === null || one.version === version);
  const inPath = (environment["PATH"] ?? "").split(delimiter).filter((dir) => dir.startsWith("/"));
  const found = [...installed.map((one) => one.dir), ...inPath].find(hasPrograms);
  if (found !== undefined) return found;
  const wanted = version === null ? "PostgreSQL" : `PostgreSQL ${version}, the version of ${config.dataDir},`;
  throw missing(`${wanted} was looked for in /usr/lib/postgresql/*/bin, /usr/pgsql-*/bin and PATH.`);
}

function missing(detail: string): Fault {
  return new Fault("BINARIES_MISSING", "PostgreSQL's programs were not found", {
    detail,
    hint: "Install the server package (Debian: apt install postgresql), or set bin_dir in the node file.",
  });
}

function installedDirs(): { version: number; dir: string }[] {
  return versionedDirs
    .flatMap(({ parent, name }) =>
      list(parent).flatMap((entry) => {
        const version = name.exec(entry)?.[1];
        return version === undefined ? [] : [{ version: Number(version), dir: join(parent, entry, "bin") }];
      }),
    )
    .sort((a, b) => b.version - a.version);
}

/** The major version a data directory is of; null when there is none yet. */
function dataVersion(dataDir: string): number | null {
  try {
    const version = Number.parseInt(readFileSync(join(dataDir, "PG_VERSION"), "latin1").trim(), 10);
    return Number.isNaN(version) ? null : version;
  } catch {
    return null; // empty, or not readable: then nothing else works either, and says so better
  }
}

function list(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}

function hasPrograms(dir: string): boolean {
  try {
    // In PATH a client-only installation has psql alone: postgres and initdb make a server.
    for (const program of ["postgres", "initdb", "pg_controldata"])
      accessSync(join(dir, program), constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
