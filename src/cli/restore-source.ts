import { resolve } from "node:path";
import { openRestoreSource, type OpenedSource } from "../backup/restore/open-source.ts";
import { openRemoteSource } from "../backup/restore/remote-source.ts";
import { noWord, wordOf, type ServerWord } from "../backup/restore/server-word.ts";
import { Fault } from "../values/fault.ts";
import { clientOf, locateBackups, type BackupFlags, type BackupLocation } from "./backup-location.ts";
import type { CommandContext } from "./context.ts";

/** What names where a restore reads from. */
export interface SourceFlags extends BackupFlags {
  readonly keyFile?: string;
}

/**
 * The backups of a cluster for a restore on this host: the repository itself where a backup file names it, else over HTTP from
 * the backup server.
 * @throws Fault as locateBackups, BACKUP_*, UNAUTHORIZED
 */
export async function openSource(context: CommandContext, flags: SourceFlags): Promise<OpenedSource> {
  const location = await locateBackups(context, flags);
  const { settings, cluster, url } = location;
  const ports = {
    clock: context.io.clock,
    timers: context.io.timers,
    log: (level: string, event: string, fields?: Readonly<Record<string, unknown>>) => {
      if (level === "warn" || level === "error") context.note([`? ${event} ${JSON.stringify(fields ?? {})}`]);
    },
  };
  if (settings !== null && flags.server === undefined)
    return openRestoreSource(settings, cluster, { ...ports, known: await wordFrom(location) });
  if (url === null) throw new Fault("NOT_FOUND", "No backup server is known");
  const token = await location.token();
  const keyFile =
    flags.keyFile === undefined
      ? (settings?.repository.keyFile ?? null)
      : resolve(context.io.directory, flags.keyFile);
  return openRemoteSource({ url, cluster, token: () => token, caFile: location.caFile, keyFile }, ports);
}

/** What the server says, when it runs: a restore from the repository itself needs none. */
async function wordFrom(location: BackupLocation): Promise<ServerWord> {
  try {
    return wordOf(await (await clientOf(location, "read")).status());
  } catch {
    return noWord;
  }
}
