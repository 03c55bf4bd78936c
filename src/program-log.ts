import { pino } from "pino";
import type { Log } from "./agent/context.ts";
import { systemClock } from "./system/clock.ts";

/** What a file says of its program's log. */
export interface LogSettings {
  readonly level: "trace" | "debug" | "info" | "warn" | "error";
  /** auto: pretty on a terminal, else JSON. */
  readonly format: "auto" | "json" | "pretty";
}

/** The log of a daemon, on its output; `base` stands in every line of JSON. */
export function createLog(settings: LogSettings, base: Readonly<Record<string, string>>): Log {
  const logger = pino({
    level: settings.level,
    base,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
  });
  const pretty = settings.format === "pretty" || (settings.format === "auto" && process.stdout.isTTY);
  if (!pretty) return (level, event, fields = {}) => logger[level]({ event, ...fields });
  return (level, event, fields = {}) => {
    if (!logger.isLevelEnabled(level)) return;
    const rest = Object.entries(fields).map(
      ([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`,
    );
    process.stdout.write(`${systemClock.wall()} ${level.padEnd(5)} ${event} ${rest.join(" ")}\n`);
  };
}
