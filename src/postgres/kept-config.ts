import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { hasErrno, readIfPresent, writeDurably } from "./durable-file.ts";

/** The user's files in a data directory that a copy or pg_rewind would replace by the source's. */
const names = ["postgresql.conf", "pg_hba.conf", "pg_ident.conf", "postgresql.auto.conf"] as const;

/** Puts copies of the user's files of `dataDir` into `keptDir`; where there are none, none are kept. */
export async function keepConfig(dataDir: string, keptDir: string): Promise<void> {
  for (const name of names) {
    const text = await readIfPresent(join(dataDir, name));
    if (text !== null) await writeDurably(join(keptDir, name), text);
  }
}

/** Brings the kept files back into a data directory, and forgets them. */
export async function restoreConfig(keptDir: string, dataDir: string): Promise<void> {
  for (const name of names) {
    try {
      await writeDurably(join(dataDir, name), await readFile(join(keptDir, name), "utf8"));
    } catch (error) {
      if (!hasErrno(error, "ENOENT")) throw error;
    }
  }
  await rm(keptDir, { recursive: true, force: true });
}
