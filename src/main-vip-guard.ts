import { runVipGuard } from "./router/vip/guard-process.ts";
import { systemClock } from "./system/clock.ts";
import { systemTimers } from "./system/timers.ts";

/** `pgherd vip-guard`: started by a router that has virtual addresses; takes its orders on its input. */
export async function vipGuardMain(): Promise<number> {
  // The stop of the whole service must not take the guard along while it has an address to give up; its pipe tells it the end.
  for (const signal of ["SIGHUP", "SIGINT", "SIGTERM", "SIGABRT"] as const)
    process.on(signal, () => undefined);
  try {
    await runVipGuard({
      input: process.stdin,
      output: process.stdout,
      errors: process.stderr,
      router: process.ppid,
      clock: systemClock,
      timers: systemTimers,
    });
    return 0;
  } catch (thrown) {
    process.stderr.write(`pgherd vip-guard: ${thrown instanceof Error ? thrown.message : String(thrown)}\n`);
    return 2;
  }
}
