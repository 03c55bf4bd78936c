import { parseArgs } from "node:util";
import { Guard } from "./agent/guard.ts";
import { systemClock } from "./system/clock.ts";
import { systemTimers } from "./system/timers.ts";

/** `pgherd guard --socket PATH --data-dir DIR --log FILE`: started by an agent, found again by the next one. */
export async function guardMain(argv: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: { socket: { type: "string" }, "data-dir": { type: "string" }, log: { type: "string" } },
  });
  const { socket, log } = values;
  const dataDir = values["data-dir"];
  if (socket === undefined || dataDir === undefined || log === undefined) {
    process.stderr.write("pgherd guard is started by an agent: --socket PATH --data-dir DIR --log FILE\n");
    process.exitCode = 2;
    return;
  }
  // The agent's end, a hang-up or a stop of the whole session must not take the guard along while it has something to guard.
  for (const signal of ["SIGHUP", "SIGINT", "SIGTERM"] as const) process.on(signal, () => undefined);
  const guard = new Guard({
    socketPath: socket,
    dataDir,
    logFile: log,
    clock: systemClock,
    timers: systemTimers,
    onEnd: () => process.exit(0),
  });
  if (!(await guard.open())) process.exit(0);
}
