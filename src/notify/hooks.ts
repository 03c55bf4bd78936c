import { spawn } from "node:child_process";
import type { ClusterEvent, EventName } from "../cluster/decision.ts";
import type { Timers } from "../system/timers.ts";

/** One command of the node file that is run for events. */
export interface Hook {
  /** Names of events; empty = all. */
  readonly events: readonly EventName[];
  /** Program and arguments; no shell is involved. */
  readonly command: readonly string[];
  readonly timeoutMs: number;
}

export interface HookContext {
  readonly cluster: string;
  readonly node: string;
  /** Facts of the moment that every hook gets: role, leader, connection string of the leader. */
  readonly facts: () => Readonly<Record<string, string>>;
  readonly timers: Timers;
  readonly log: (event: string, fields: Readonly<Record<string, unknown>>) => void;
}

interface Lane {
  readonly hook: Hook;
  readonly queue: ClusterEvent[];
  running: boolean;
  dropped: number;
}

/** At most this many events wait for one hook; more are dropped, and counted in the log. */
const queueLimit = 100;

/**
 * Runs the operator's commands for events: one at a time for each hook, in order, with a timeout and a bounded queue, and
 * never in the way of a decision. A hook gets the facts as environment (`PGHERD_...`) and the event as JSON on its input.
 */
export class HookRunner {
  readonly #context: HookContext;
  readonly #lanes: readonly Lane[];

  constructor(hooks: readonly Hook[], context: HookContext) {
    this.#context = context;
    this.#lanes = hooks.map((hook) => ({ hook, queue: [], running: false, dropped: 0 }));
  }

  /** Queues the event for every hook that asked for it; returns at once. */
  offer(event: ClusterEvent): void {
    for (const lane of this.#lanes) {
      if (lane.hook.events.length > 0 && !lane.hook.events.includes(event.event)) continue;
      if (lane.queue.length >= queueLimit) {
        lane.dropped += 1;
        this.#context.log("hook.dropped", {
          event: event.event,
          dropped: lane.dropped,
          command: lane.hook.command[0],
        });
        continue;
      }
      lane.queue.push(event);
      if (!lane.running) void this.#drain(lane);
    }
  }

  async #drain(lane: Lane): Promise<void> {
    lane.running = true;
    for (let event = lane.queue.shift(); event !== undefined; event = lane.queue.shift())
      await this.#run(lane.hook, event);
    lane.running = false;
  }

  #run(hook: Hook, event: ClusterEvent): Promise<void> {
    const { timers, log } = this.#context;
    const [program, ...rest] = hook.command;
    if (program === undefined) return Promise.resolve();
    return new Promise((resolve) => {
      const child = spawn(program, rest, {
        stdio: ["pipe", "ignore", "ignore"],
        env: { ...process.env, ...this.#environment(event) },
      });
      const timer = timers.after(hook.timeoutMs, () => {
        log("hook.timeout", { event: event.event, command: program, timeout_ms: hook.timeoutMs });
        child.kill("SIGKILL");
      });
      const end = (): void => {
        timer.cancel();
        resolve();
      };
      child.on("error", (error) => {
        log("hook.failed", { event: event.event, command: program, message: error.message });
        end();
      });
      child.on("close", (code) => {
        if (code !== 0) log("hook.failed", { event: event.event, command: program, exit_code: code });
        end();
      });
      child.stdin.on("error", () => undefined); // a command need not read its input
      child.stdin.end(`${JSON.stringify({ cluster: this.#context.cluster, ...event })}\n`);
    });
  }

  #environment(event: ClusterEvent): Record<string, string> {
    const variables: Record<string, string> = {
      PGHERD_CLUSTER: this.#context.cluster,
      PGHERD_NODE: this.#context.node,
      PGHERD_EVENT: event.event,
      PGHERD_SUCCESS: event.success ? "1" : "0",
      PGHERD_TIMESTAMP: event.at,
      PGHERD_MESSAGE: event.message,
    };
    for (const [name, value] of Object.entries({ ...this.#context.facts(), ...event.facts }))
      if (value !== null)
        variables[`PGHERD_${name.toUpperCase().replace(/[^A-Z0-9]+/g, "_")}`] = String(value);
    return variables;
  }
}
