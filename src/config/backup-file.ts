import { hostname } from "node:os";
import { basename } from "node:path";
import type { BackupSettings } from "./backup-config.ts";
import { crossCheckBackup } from "./backup-cross-checks.ts";
import { backupFileSchema, type BackupFile } from "./backup-file-schema.ts";
import { resolveBackupSettings, type BackupHost } from "./backup-settings.ts";
import { checkText, invalidConfig, readFileText } from "./checked-file.ts";
import type { Environment } from "./environment.ts";
import { backupFileJsonSchema } from "./json-schema.ts";
import type { ConfigProblem } from "./problem.ts";

/** A backup file that was checked: usable when there are no problems. */
export interface CheckedBackupFile {
  /** null when there is any problem. */
  readonly settings: BackupSettings | null;
  /** All of them, in the order of the file. */
  readonly problems: readonly ConfigProblem[];
}

/** Checks the text of a backup file with the environment's overrides; `file` is how problems call it. Touches nothing. */
export function checkBackupFile(
  text: string,
  environment: Environment,
  file = "backup file",
  host = thisHost(),
): CheckedBackupFile {
  const kind = {
    schema: backupFileSchema,
    jsonSchema: backupFileJsonSchema(),
    crossCheck: (value: BackupFile | null) => (value === null ? [] : crossCheckBackup(value)),
  };
  const { value, problems } = checkText(kind, text, environment, file);
  const usable = problems.length === 0 && value !== null;
  return { settings: usable ? resolveBackupSettings(value, host) : null, problems };
}

/**
 * Reads and checks a backup file.
 * @throws Fault CONFIG_UNREADABLE; CONFIG_INVALID with every problem as one line of its detail
 */
export async function loadBackupSettings(path: string, environment: Environment): Promise<BackupSettings> {
  const text = await readFileText(path, "backup file");
  const { settings, problems } = checkBackupFile(text, environment, basename(path));
  if (settings === null || problems.length > 0) throw invalidConfig(path, problems);
  return settings;
}

function thisHost(): BackupHost {
  return { name: hostname(), timeZone: Intl.DateTimeFormat().resolvedOptions().timeZone };
}
