import { spawn, type ChildProcess } from "node:child_process";
import type { Clock } from "../system/clock.ts";
import type { Timers } from "../system/timers.ts";
import { elapsedMs } from "../values/time.ts";
import { Guard } from "./guard.ts";

/** The first restart is at once: the deadline of a lease that is held goes on. */
const firstWaitMs = 100;
const longestWaitMs = 10_000;
/** The longest wait while a lease may be held. */
const longestArmedWaitMs = 1000;
/** A child that lived this long starts the series of waits anew. */
const stableMs = 10_000;
/** Between two looks at the guard before the supervisor ends. */
const lookMs = 20;

/** Exit codes after which a restart cannot help: 0 done, 2 bad usage, 78 configuration (EX_CONFIG). */
const final: ReadonlySet<number> = new Set([0, 2, 78]);

type Passed = "SIGTERM" | "SIGINT" | "SIGHUP" | "SIGUSR2";

/** What an agent tells its supervisor over the channel it was started with. */
export interface SupervisorMessage {
  /** It handles signals from now on. */
  readonly ready?: true;
  /** Where it will look for the supervisor's guard, and what that is to end. */
  readonly guard?: { readonly socketPath: string; readonly dataDir: string; readonly logFile: string };
}

interface Child {
  readonly process: ChildProcess;
  /** Signals that came before it could handle them: their default action would end it and leave PostgreSQL alone. */
  readonly held: Passed[];
  ready: boolean;
}

/**
 * Runs a command and starts it again whenever it dies, with growing waits; passes SIGTERM, SIGINT, SIGHUP and SIGUSR2 on. It is
 * the second guard too (P4): when agent and guard are dead or frozen both, it ends PostgreSQL at the deadline.
 * @returns the exit code to end with
 */
export async function supervise(command: readonly string[], clock: Clock, timers: Timers): Promise<number> {
  const [program, ...rest] = command;
  if (program === undefined) return 2;
  const guards = new Map<string, Guard>();
  const isArmed = (): boolean => [...guards.values()].some((guard) => guard.armed);
  const state: { child: Child | null; ending: Passed | null } = { child: null, ending: null };
  const told = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const)
    process.on(signal, () => {
      state.ending = signal;
      told.abort();
      pass(state.child, signal);
    });
  for (const signal of ["SIGHUP", "SIGUSR2"] as const) process.on(signal, () => pass(state.child, signal));
  const ending = (): Passed | null => state.ending;
  for (let waitMs = 0; ; waitMs = Math.min(longestWaitMs, Math.max(firstWaitMs, waitMs * 2))) {
    const started = clock.now();
    // Told to end while there was no agent: one more is started, which stops PostgreSQL.
    const held = state.ending === null ? [] : [state.ending];
    const env = { ...process.env, PGHERD_SUPERVISOR: String(process.pid) };
    const child = spawn(program, rest, { stdio: ["inherit", "inherit", "inherit", "ipc"], env });
    state.child = { process: child, held, ready: false };
    listen(state.child, guards, clock, timers);
    const code = await exitOf(child);
    state.child = null;
    if (ending() !== null || (code !== null && final.has(code))) {
      // What is armed still has something to end: no agent renews the lease any more.
      while (isArmed()) await timers.sleep(lookMs);
      for (const guard of guards.values()) guard.close();
      return code ?? 0;
    }
    if (elapsedMs(started, clock.now()) > stableMs) waitMs = 0;
    await timers.sleep(Math.min(waitMs, isArmed() ? longestArmedWaitMs : longestWaitMs), told.signal);
  }
}

function pass(child: Child | null, signal: Passed): void {
  if (child === null) return;
  if (child.ready) child.process.kill(signal);
  else child.held.push(signal);
}

function listen(child: Child, guards: Map<string, Guard>, clock: Clock, timers: Timers): void {
  child.process.on("message", (message) => {
    const { ready, guard } = message as SupervisorMessage;
    if (ready === true) {
      child.ready = true;
      for (const signal of child.held.splice(0)) child.process.kill(signal);
    }
    if (guard !== undefined) void openGuard(guard, guards, clock, timers);
  });
}

async function openGuard(
  told: NonNullable<SupervisorMessage["guard"]>,
  guards: Map<string, Guard>,
  clock: Clock,
  timers: Timers,
): Promise<void> {
  const key = JSON.stringify(told);
  if (guards.has(key)) return;
  // The node file names other directories now: an older guard keeps its deadline, and is not found any more.
  for (const older of guards.values()) older.close();
  const guard = new Guard({ ...told, clock, timers, onEnd: () => undefined });
  try {
    if (await guard.open()) guards.set(key, guard);
  } catch (thrown) {
    process.stderr.write(`the supervisor cannot guard: ${thrown instanceof Error ? thrown.message : ""}\n`);
  }
}

function exitOf(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => {
    child.once("error", () => resolve(1));
    child.once("exit", (code) => resolve(code));
  });
}
