import type { PostgresSettings } from "../postgres/instance.ts";
import type { AgentContext } from "./context.ts";

/** What PostgreSQL is started and reloaded with now: cluster settings, then the node file's own. */
export function postgresSettings(context: AgentContext): PostgresSettings {
  const { options } = context;
  const { postgresql } = context.settings();
  return {
    parameters: { ...postgresql.parameters, ...options.parameters },
    synchronousStandbyNames: context.notebook.synchronousNames ?? "",
    admission: context.membership.closed ? "replication" : "everyone",
    hba: postgresql.hba,
    restoreCommand: options.restoreCommand ?? postgresql.restoreCommand,
    recoveryMinApplyDelayMs: options.recoveryMinApplyDelayMs,
  };
}
