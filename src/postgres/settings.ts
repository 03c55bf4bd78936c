import { elapsedMs } from "../values/time.ts";
import { currentUpstream, writeGeneratedFiles } from "./generated-files.ts";
import type { PostgresSettings } from "./instance.ts";
import type { Lifecycle } from "./lifecycle.ts";
import { reload } from "./receiver.ts";
import { localTarget, oneRow, withSql } from "./sql.ts";

/** How long the postmaster may take to read its configuration, and how often it is looked at. */
const reloadLimitMs = 3_000;
const reloadPollMs = 10;

/**
 * Writes the generated files with the upstream left as it is, reloads, and waits until the postmaster has read them.
 * @returns whether a parameter waits for a restart; false when PostgreSQL does not run
 * @throws Fault CONFIG_INVALID, POSTGRES_UNREACHABLE
 */
export async function applySettings(on: Lifecycle, settings: PostgresSettings): Promise<boolean> {
  const { at } = on;
  await writeGeneratedFiles(at, await on.major(), settings, await currentUpstream(at));
  if ((await on.postmaster.find()) === null) return false;
  const before = await loadState(on);
  await reload(on);
  const started = at.clock.now();
  for (;;) {
    const now = await loadState(on);
    // A faulty file leaves the load time as it was: then what is pending is what was pending before.
    if (now.loadedAt !== before.loadedAt || elapsedMs(started, at.clock.now()) > reloadLimitMs)
      return now.pending || Object.keys(await on.postmaster.raised()).length > 0;
    await at.timers.sleep(reloadPollMs);
  }
}

/** What a new session inherits from the postmaster. */
async function loadState(on: Lifecycle): Promise<{ readonly loadedAt: string; readonly pending: boolean }> {
  const row = await withSql(localTarget(on.at, on.at.timeouts.statementMs), (client) =>
    oneRow(
      client,
      "select pg_conf_load_time()::text as loaded, exists (select from pg_settings where pending_restart) as pending",
    ),
  );
  return { loadedAt: String(row["loaded"]), pending: row["pending"] === true };
}
