import { setPriority } from "node:os";
import { openRemoteSource } from "./backup/restore/remote-source.ts";
import { doWork } from "./backup/restore/work.ts";
import { parseWorkOrder, type WorkOrder, type WorkReport } from "./backup/restore/work-protocol.ts";
import { systemClock } from "./system/clock.ts";
import { systemTimers, type Timer } from "./system/timers.ts";
import { toFault } from "./values/fault.ts";
import { Secret } from "./values/secret.ts";

/** An agent that is gone is noticed at once; what a restore then still does has this long. */
const orphanMs = 10_000;
/** PostgreSQL and its agent come first on a host that both may need. */
const niceness = 5;

/** `pgherd restore-job DIR`: a child of an agent, one for each restore. @returns the exit code */
export async function restoreJobMain(): Promise<number> {
  if (process.send === undefined) {
    process.stderr.write("pgherd restore-job is started by an agent.\n");
    return 2;
  }
  setPriority(niceness);
  // The stop of the whole service goes to the agent, which says when.
  for (const signal of ["SIGHUP", "SIGINT", "SIGTERM", "SIGUSR2"] as const)
    process.on(signal, () => undefined);
  const ending = new AbortController();
  const orphan: { timer: Timer | null } = { timer: null };
  const orphaned = (): void => {
    ending.abort();
    orphan.timer = systemTimers.after(orphanMs, () => process.exit(1));
  };
  process.on("disconnect", orphaned);
  try {
    const order = await firstOrder(ending);
    if (order === null) return 1;
    await send({ kind: "done", result: await carryOut(order, ending.signal) });
    return 0;
  } catch (thrown) {
    await send({ kind: "failed", fault: toFault(thrown).report() });
    return 1;
  } finally {
    process.off("disconnect", orphaned);
    orphan.timer?.cancel();
    if (process.connected) process.disconnect();
  }
}

async function carryOut(
  { server, binDir, work }: Extract<WorkOrder, { kind: "start" }>,
  signal: AbortSignal,
): ReturnType<typeof doWork> {
  const token = server.token === null ? null : new Secret(server.token);
  const source = await openRemoteSource(
    { ...server, token: () => token },
    { clock: systemClock, timers: systemTimers, log: () => undefined },
  );
  try {
    const onStep = (step: Extract<WorkReport, { kind: "step" }>["step"]): void =>
      void send({ kind: "step", step });
    return await doWork(source, work, {
      binDir,
      clock: systemClock,
      timers: systemTimers,
      signal,
      onStep: calm(onStep),
    });
  } finally {
    await source.close();
  }
}

/** Steps at most a few times a second. */
function calm<T extends { readonly step: string }>(tell: (step: T) => void): (step: T) => void {
  let told = 0;
  let last = "";
  return (step) => {
    const now = systemClock.now();
    if (step.step === last && now - told < 250) return;
    told = now;
    last = step.step;
    tell(step);
  };
}

/** null = told to stop, or the agent is gone, before there was one. */
function firstOrder(ending: AbortController): Promise<Extract<WorkOrder, { kind: "start" }> | null> {
  return new Promise((resolve) => {
    ending.signal.addEventListener("abort", () => resolve(null), { once: true });
    process.on("message", (message) => {
      const order = parseWorkOrder(message);
      if (order?.kind === "cancel") ending.abort();
      else if (order?.kind === "start") resolve(order);
    });
    void send({ kind: "ready" });
  });
}

/** Resolves when the report has gone out, or cannot any more. */
function send(report: WorkReport): Promise<void> {
  return new Promise((resolve) => {
    if (!process.connected) resolve();
    else process.send?.(report, () => resolve());
  });
}
