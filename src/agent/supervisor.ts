import { spawn, type ChildProcess } from "node:child_process";
import type { Timers } from "../system/timers.ts";

const firstWaitMs = 100;
const longestWaitMs = 10_000;
/** A child that lived this long starts the series of waits anew. */
const stableMs = 10_000;

/** Exit codes after which a restart cannot help: 0 done, 2 bad usage, 78 configuration (EX_CONFIG). */
const final: ReadonlySet<number> = new Set([0, 2, 78]);

/**
 * Runs a command and starts it again whenever it dies, with growing waits; passes SIGTERM, SIGINT, SIGHUP and SIGUSR2 on.
 * @returns the exit code to end with
 */
export async function supervise(
  command: readonly string[],
  timers: Timers,
  nowMs: () => number,
): Promise<number> {
  const [program, ...rest] = command;
  if (program === undefined) return 2;
  const state: { child: ChildProcess | null; ending: boolean } = { child: null, ending: false };
  const told = new AbortController();
  const goesOn = (): boolean => !state.ending;
  for (const signal of ["SIGTERM", "SIGINT"] as const)
    process.on(signal, () => {
      state.ending = true;
      told.abort();
      state.child?.kill(signal);
    });
  for (const signal of ["SIGHUP", "SIGUSR2"] as const) process.on(signal, () => state.child?.kill(signal));
  for (let waitMs = firstWaitMs; goesOn(); waitMs = Math.min(longestWaitMs, waitMs * 2)) {
    const started = nowMs();
    const env = { ...process.env, PGHERD_SUPERVISOR: String(process.pid) };
    state.child = spawn(program, rest, { stdio: "inherit", env });
    const code = await exitOf(state.child);
    if (!goesOn() || (code !== null && final.has(code))) return code ?? 0;
    if (nowMs() - started > stableMs) waitMs = firstWaitMs;
    await timers.sleep(waitMs, told.signal);
  }
  return 0;
}

function exitOf(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => {
    child.once("error", () => resolve(1));
    child.once("exit", (code) => resolve(code));
  });
}
