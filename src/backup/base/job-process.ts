import type { Log } from "../../agent/context.ts";
import { Fault, toFault } from "../../values/fault.ts";
import {
  parseJobOrder,
  type JobKind,
  type JobOptions,
  type JobOrder,
  type JobProgress,
  type JobReport,
  type JobResults,
} from "./job-protocol.ts";

/** The daemon's end of the channel. */
export interface JobChannel {
  /** Resolves when the report has gone out, or cannot any more. */
  send(report: JobReport): Promise<void>;
  /** Called with each message, from the first one on. */
  onMessage(listener: (message: unknown) => void): void;
  /** Called when the daemon is gone. */
  onClose(listener: () => void): void;
}

/** What a job works with besides its options. */
export interface JobContext {
  readonly id: string;
  /** The daemon's configuration file. */
  readonly config: string;
  /** Goes to the daemon's log. */
  readonly log: Log;
  readonly onProgress: (progress: JobProgress) => void;
  /** Aborts, with the reason as text, when the job is to stop. */
  readonly signal: AbortSignal;
}

/** Who does each kind of job. */
export type JobHandlers = {
  readonly [K in JobKind]: (options: JobOptions[K], context: JobContext) => Promise<JobResults[K]>;
};

/** Takes one order, carries it out and says how it ended. @returns the exit code */
export async function runJobProcess(channel: JobChannel, handlers: JobHandlers): Promise<number> {
  const stop = new AbortController();
  channel.onClose(() => stop.abort("the backup server is gone"));
  const start = await firstOrder(channel, stop);
  if (start === null) return 1;
  try {
    const result = await handle(handlers, start, {
      id: start.id,
      config: start.config,
      log: logTo(channel),
      onProgress: (progress) => void channel.send({ kind: "progress", progress }),
      signal: stop.signal,
    });
    await channel.send({ kind: "done", result });
    return 0;
  } catch (thrown) {
    await channel.send({ kind: "failed", fault: toFault(thrown).report() });
    return 1;
  }
}

type Start = Extract<JobOrder, { kind: "start" }>;

/** null = told to stop, or the daemon is gone, before there was one. */
function firstOrder(channel: JobChannel, stop: AbortController): Promise<Start | null> {
  return new Promise((resolve) => {
    let taken = false;
    stop.signal.addEventListener("abort", () => resolve(null), { once: true });
    channel.onMessage((message) => {
      const order = parseJobOrder(message);
      if (order?.kind === "cancel") stop.abort(order.reason);
      else if (order?.kind === "start" && !taken) {
        taken = true;
        resolve(order);
      }
    });
    void channel.send({ kind: "ready", pid: process.pid });
  });
}

function handle(handlers: JobHandlers, { job }: Start, context: JobContext): Promise<JobResults[JobKind]> {
  switch (job.kind) {
    case "base":
      return handlers.base(job, context);
    case "verify":
      return handlers.verify(job, context);
    case "drill":
      return handlers.drill(job, context);
    case "collect":
      return handlers.collect(job, context);
    case "copy":
      return handlers.copy(job, context);
    default:
      // Of a daemon of another version.
      return Promise.reject(new Fault("REQUEST_INVALID", "There is no such kind of job"));
  }
}

/** Lines of a job go to its daemon, which knows whose they are. */
function logTo(channel: JobChannel): Log {
  return (level, event, fields = {}) => {
    if (level === "debug") return;
    const { message, ...rest } = fields;
    const facts = Object.entries(rest).map(([name, value]) => [name, asFact(value)] as const);
    void channel.send({
      kind: "note",
      level: level === "info" ? "info" : "warn",
      event,
      message: typeof message === "string" ? message : event,
      facts: Object.fromEntries(facts),
    });
  };
}

function asFact(value: unknown): string | number | boolean | null {
  if (value === null || value === undefined) return null;
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") return value;
  return typeof value === "bigint" ? String(value) : JSON.stringify(value);
}
