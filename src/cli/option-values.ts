import { InvalidArgumentError } from "commander";
import { formatDuration, parseDuration } from "../config/duration.ts";
import { parseSize } from "../config/size.ts";

/** A whole number within bounds, for commander: its error names the option itself. */
export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^-?[0-9]+$/.test(text) || value < least || value > most)
      throw new InvalidArgumentError(`It is a whole number from ${least} to ${most}.`);
    return value;
  };
}

/** A duration such as `500ms`, `5s`, `2min`, `1h` (a plain number counts seconds), in milliseconds and within bounds. */
export function duration(leastMs: number, mostMs: number): (text: string) => number {
  return (text) => {
    const value = parseDuration(text);
    if (value === undefined || value < leastMs || value > mostMs)
      throw new InvalidArgumentError(
        `It is a duration such as 5s or 2min, from ${formatDuration(leastMs)} to ${formatDuration(mostMs)}.`,
      );
    return value;
  };
}

/** A size such as `16MB` in PostgreSQL's units (a plain number counts bytes), in bytes. */
export function size(text: string): number {
  const value = parseSize(text);
  if (value === undefined) throw new InvalidArgumentError("It is a size such as 512kB, 16MB or 1GB.");
  return value;
}

/** Collects an option that may be given several times. */
export function collect(value: string, previous: readonly string[] | undefined): readonly string[] {
  return [...(previous ?? []), value];
}
