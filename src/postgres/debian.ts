import { copyFile, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Fault } from "../values/fault.ts";
import { readIfPresent } from "./durable-file.ts";
import { realPath } from "./processes.ts";

/** A cluster of Debian's postgresql-common, which Debian's own service would start. */
export interface DebianService {
  /** The unit, such as `postgresql@15-main`. */
  readonly unit: string;
  readonly configDir: string;
  readonly startConf: string;
  /** auto: started with the machine; manual: by pg_ctlcluster only; disabled: not at all. */
  readonly start: "auto" | "manual" | "disabled";
}

/** Debian's service for a data directory; null when it has none. */
export async function findServiceFor(
  dataDir: string,
  etcDir = "/etc/postgresql",
): Promise<DebianService | null> {
  const wanted = realPath(dataDir);
  for (const version of await names(etcDir))
    for (const cluster of await names(join(etcDir, version))) {
      const configDir = join(etcDir, version, cluster);
      const configuration = await readIfPresent(join(configDir, "postgresql.conf")).catch(() => null);
      const found = configuration === null ? null : dataDirectoryIn(configuration);
      if (found === null || realPath(found) !== wanted) continue;
      const startConf = join(configDir, "start.conf");
      return {
        unit: `postgresql@${version}-${cluster}`,
        configDir,
        startConf,
        start: await startMode(startConf),
      };
    }
  return null;
}

/**
 * Keeps Debian's service from starting the cluster; the old start.conf is copied to `backupDir` first.
 * @throws Fault FOREIGN_SERVICE with the command to run when this user may not
 */
export async function disableServiceStart(service: DebianService, backupDir: string): Promise<void> {
  if (service.start === "disabled") return;
  try {
    const old = await readIfPresent(service.startConf);
    if (old !== null) {
      await mkdir(backupDir, { recursive: true, mode: 0o700 });
      await copyFile(service.startConf, join(backupDir, `start.conf.${service.unit}`));
    }
    await writeFile(service.startConf, "disabled\n");
  } catch (error) {
    throw new Fault("FOREIGN_SERVICE", `The service ${service.unit} also starts this data directory`, {
      detail: error instanceof Error ? error.message : String(error),
      hint: `Run as root: echo disabled > ${service.startConf}`,
      cause: error,
    });
  }
}

/** The value of data_directory in the text of a postgresql.conf. */
export function dataDirectoryIn(configuration: string): string | null {
  const match = /^\s*data_directory\s*=?\s*(?:'((?:[^']|'')*)'|([^\s#]+))/m.exec(configuration);
  const value = match?.[1]?.replace(/''/g, "'") ?? match?.[2];
  return value === undefined || value === "" ? null : value;
}

async function startMode(path: string): Promise<DebianService["start"]> {
  const text = await readFile(path, "utf8").catch(() => "");
  const word = text
    .split("\n")
    .map((line) => line.replace(/#.*/, "").trim())
    .find((line) => line !== "");
  return word === "manual" || word === "disabled" ? word : "auto";
}

async function names(directory: string): Promise<readonly string[]> {
  return (await readdir(directory).catch(() => [])).sort();
}
