import { readFile } from "node:fs/promises";
import type { RepositorySettings } from "../config/backup-config.ts";
import type { Clock } from "../system/clock.ts";
import type { Timers } from "../system/timers.ts";
import { Fault, toFault } from "../values/fault.ts";
import { DirectoryStore } from "./repository/directory-store.ts";
import { parseKey } from "./repository/identity.ts";
import type { ObjectStore } from "./repository/object-store.ts";
import { ReadOnlyStore } from "./repository/read-only-store.ts";
import { openS3Store } from "./repository/s3-settings.ts";
import { createRepository, openRepository, type StoredRepository } from "./repository/open.ts";

/** What opening a repository needs besides its settings. */
export interface RepositoryPorts {
  readonly clock: Clock;
  readonly timers: Timers;
}

/**
 * Opens the repository that a backup file names.
 * @throws Fault BACKUP_NOT_FOUND, BACKUP_KEY_WRONG, BACKUP_REPOSITORY_INVALID, BACKUP_STORE_*, CONFIG_UNREADABLE
 */
export async function openSettledRepository(
  settings: RepositorySettings,
  ports: RepositoryPorts,
): Promise<StoredRepository> {
  return openRepository(await openSettledStore(settings, ports), { ...ports, key: await keyOf(settings) });
}

/** The same, and makes one where there is none. @throws as openSettledRepository */
export async function openOrCreateRepository(
  settings: RepositorySettings,
  ports: RepositoryPorts,
): Promise<StoredRepository> {
  const options = { ...ports, key: await keyOf(settings) };
  const store = await openSettledStore(settings, ports);
  try {
    return await openRepository(store, options);
  } catch (thrown) {
    if (toFault(thrown).code !== "BACKUP_NOT_FOUND") throw thrown;
    return createRepository(store, options).catch((refused: unknown) => {
      // Somebody else made it at the same moment.
      if (toFault(refused).code === "BACKUP_REPOSITORY_INVALID") return openRepository(store, options);
      throw refused;
    });
  }
}

/** The repository, of which nothing is changed. @throws as openSettledRepository */
export async function openForReading(
  settings: RepositorySettings,
  ports: RepositoryPorts,
): Promise<StoredRepository> {
  const store = new ReadOnlyStore(await openSettledStore(settings, ports));
  return openRepository(store, { ...ports, key: await keyOf(settings) });
}

/** The object store that a backup file names, whatever is in it. @throws Fault CONFIG_UNREADABLE, CONFIG_INVALID */
export async function openSettledStore(
  { place }: RepositorySettings,
  { timers }: Pick<RepositoryPorts, "timers">,
): Promise<ObjectStore> {
  switch (place.kind) {
    case "directory":
      return Promise.resolve(new DirectoryStore(place.path));
    case "s3":
      return openS3Store(place, process.env, timers);
  }
}

async function keyOf({ keyFile }: RepositorySettings): Promise<Buffer | null> {
  return keyFile === null ? null : readKeyFile(keyFile);
}

/** The key of an encrypted repository. @throws Fault CONFIG_UNREADABLE, BACKUP_KEY_WRONG */
export async function readKeyFile(keyFile: string): Promise<Buffer> {
  let text: string;
  try {
    text = await readFile(keyFile, "utf8");
  } catch (thrown) {
    throw new Fault("CONFIG_UNREADABLE", `The key file ${keyFile} cannot be read`, {
      detail: toFault(thrown).message,
      hint: "Who reads the repository must be able to read it; `head -c 32 /dev/urandom | base64` makes a new one.",
      cause: thrown,
    });
  }
  return parseKey(text);
}
