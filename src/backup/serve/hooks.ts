import { spawn } from "node:child_process";
import type { Log } from "../../agent/context.ts";
import type { BackupEventName, BackupHook } from "../../config/backup-config.ts";
import type { Clock } from "../../system/clock.ts";
import type { Timers } from "../../system/timers.ts";
import { Fault } from "../../values/fault.ts";

export interface BackupEvent {
  readonly event: BackupEventName;
  readonly cluster: string;
  readonly message: string;
  readonly facts: Readonly<Record<string, string | number | boolean | null>>;
}

export interface BackupHooksParts {
  readonly server: string;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
}

/** At most this many events wait for the programs of one cluster; more are dropped, and the log says so. */
const queueLimit = 100;

/** Runs the operator's programs for events of one cluster, one after another, never in the way of anything but a required one. */
export class BackupHooks {
  readonly #hooks: readonly BackupHook[];
  readonly #parts: BackupHooksParts;
  #tail: Promise<void> = Promise.resolve();
  #waiting = 0;

  constructor(hooks: readonly BackupHook[], parts: BackupHooksParts) {
    this.#hooks = hooks;
    this.#parts = parts;
  }

  /** Queues the event for every program that asked for it; returns at once. */
  offer(event: BackupEvent): void {
    const { log } = this.#parts;
    log(
      event.event.endsWith("failed") || event.event === "wal_gap" ? "error" : "info",
      `event.${event.event}`,
      {
        cluster: event.cluster,
        message: event.message,
        ...event.facts,
      },
    );
    const wanted = this.#wanting(event).filter((hook) => !hook.required);
    if (wanted.length === 0) return;
    if (this.#waiting >= queueLimit) {
      log("warn", "hook.dropped", { cluster: event.cluster, event: event.event });
      return;
    }
    this.#waiting += 1;
    this.#tail = this.#tail.then(async () => {
      for (const hook of wanted) {
        const problem = await this.#run(hook, event);
        if (problem !== null)
          log("warn", "hook.failed", { event: event.event, command: hook.command[0], problem });
      }
      this.#waiting -= 1;
    });
  }

  /** Runs the programs that may refuse. @throws Fault PROGRAM_FAILED */
  async require(event: BackupEvent): Promise<void> {
    for (const hook of this.#wanting(event).filter((each) => each.required)) {
      const problem = await this.#run(hook, event);
      if (problem !== null)
        throw new Fault(
          "PROGRAM_FAILED",
          `The required program ${hook.command[0] ?? ""} failed: no backup is made`,
          {
            detail: problem,
            hint: "It is a hook of the backup file.",
          },
        );
    }
  }

  #wanting(event: BackupEvent): readonly BackupHook[] {
    return this.#hooks.filter((hook) => hook.events === null || hook.events.includes(event.event));
  }

  /** @returns why it failed; null = it did not */
  #run(hook: BackupHook, event: BackupEvent): Promise<string | null> {
    const [program, ...rest] = hook.command;
    if (program === undefined) return Promise.resolve(null);
    const { timers, clock } = this.#parts;
    const at = clock.wall();
    return new Promise((resolve) => {
      const child = spawn(program, rest, {
        stdio: ["pipe", "ignore", "ignore"],
        env: { ...process.env, ...this.#environment(event, at) },
      });
      const timer = timers.after(hook.timeoutMs, () => {
        child.kill("SIGKILL");
      });
      const end = (problem: string | null): void => {
        timer.cancel();
        resolve(problem);
      };
      child.on("error", (error) => end(error.message));
      child.on("close", (code, signal) => {
        if (signal !== null) end(`ended by ${signal} (the limit is ${hook.timeoutMs} ms)`);
        else end(code === 0 ? null : `exit code ${code ?? "?"}`);
      });
      child.stdin.on("error", () => undefined); // a program need not read its input
      child.stdin.end(`${JSON.stringify({ at, server: this.#parts.server, ...event })}\n`);
    });
  }

  #environment(event: BackupEvent, at: string): Record<string, string> {
    const variables: Record<string, string> = {
      PGHERD_CLUSTER: event.cluster,
      PGHERD_BACKUP_SERVER: this.#parts.server,
      PGHERD_EVENT: event.event,
      PGHERD_TIMESTAMP: at,
      PGHERD_MESSAGE: event.message,
    };
    for (const [name, value] of Object.entries(event.facts))
      if (value !== null)
        variables[`PGHERD_${name.toUpperCase().replace(/[^A-Z0-9]+/g, "_")}`] = String(value);
    return variables;
  }
}
