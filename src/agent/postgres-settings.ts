import type { PostgresSettings } from "../postgres/instance.ts";
import type { AgentContext } from "./context.ts";
import { nearestArchive } from "./local-archive.ts";

/** Standbys archive too: what the last primary had not brought to the archive yet, they have. */
const pushParameters = (command: string): Readonly<Record<string, string>> => ({
  archive_mode: "always",
  archive_command: command,
});

/** What PostgreSQL is started and reloaded with now: cluster settings, then the node file's own. */
export function postgresSettings(context: AgentContext): PostgresSettings {
  const { options } = context;
  const { postgresql, backup } = context.settings();
  const commands = nearestArchive(context) === null ? null : context.archive.commands;
  const push = backup.push && commands !== null ? pushParameters(commands.archive) : {};
  return {
    parameters: { ...postgresql.parameters, ...options.parameters, ...push },
    synchronousStandbyNames: context.notebook.synchronousNames ?? "",
    admission: context.membership.closed ? "replication" : "everyone",
    hba: postgresql.hba,
    restoreCommand:
      options.restoreCommand ??
      postgresql.restoreCommand ??
      (backup.restore ? commands?.restore : null) ??
      null,
    recoveryMinApplyDelayMs: options.recoveryMinApplyDelayMs,
  };
}
