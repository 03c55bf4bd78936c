import { spawn } from "node:child_process";
import type { Timer, Timers } from "../system/timers.ts";

/** systemd is told this often within the time it allows. */
const times = 3;

/** What the service manager says of its watchdog in the environment of a service (systemd.service, WatchdogSec). */
export interface ServiceEnvironment {
  readonly NOTIFY_SOCKET?: string | undefined;
  /** Microseconds between two signs of life at most. */
  readonly WATCHDOG_USEC?: string | undefined;
}

/** Tells systemd that another process is the service's main one from now on: it is not ended together with this one. */
export function tellMainProcess(
  environment: ServiceEnvironment,
  pid: number,
  program = "systemd-notify",
): void {
  if (environment.NOTIFY_SOCKET === undefined) return;
  const child = spawn(program, [`MAINPID=${pid}`], {
    stdio: "ignore",
    env: { ...process.env, ...environment },
  });
  child.once("error", () => undefined);
}

/**
 * A further layer of P4: tells systemd that this process lives; one that is frozen is killed by it, and PostgreSQL with it,
 * because the whole control group goes. systemd's own program sends the word (NotifyAccess=all): Node has no datagram sockets
 * of the file system. Does nothing where the service manager asks for nothing.
 * @returns how to end it
 */
export function tellServiceManager(
  environment: ServiceEnvironment,
  timers: Timers,
  program = "systemd-notify",
): () => void {
  const everyMs = Number(environment.WATCHDOG_USEC) / 1000 / times;
  if (environment.NOTIFY_SOCKET === undefined || !(everyMs > 0)) return () => undefined;
  let timer: Timer | null = null;
  let running = false;
  const tell = (): void => {
    timer = timers.after(everyMs, tell);
    if (running) return;
    running = true;
    const child = spawn(program, ["--no-block", "WATCHDOG=1"], {
      stdio: "ignore",
      env: { ...process.env, ...environment },
    });
    const done = (): void => {
      running = false;
    };
    child.once("error", done);
    child.once("exit", done);
  };
  tell();
  return () => timer?.cancel();
}
