import { tellServiceManager } from "./agent/service-watchdog.ts";
import { supervise } from "./agent/supervisor.ts";
import { programFile } from "./program-file.ts";
import { systemClock } from "./system/clock.ts";
import { systemTimers } from "./system/timers.ts";

/** `pgherd agent|router --supervised ...`: runs the same command without that word, and again whenever it dies. */
export function supervisorMain(
  argv: readonly string[],
  daemon: "agent" | "router" = "agent",
): Promise<number> {
  const rest = argv.filter((word) => word !== "--supervised");
  const command = [process.execPath, ...process.execArgv, programFile(), daemon, ...rest];
  const endTelling = tellServiceManager(process.env, systemTimers);
  return supervise(command, systemClock, systemTimers).finally(endTelling);
}
