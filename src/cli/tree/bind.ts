import { Option, type Command } from "commander";
import type { CommandContext } from "../context.ts";

/** What a command does: returns its exit code, or nothing for 0. */
export type Handler<Options> = (
  context: CommandContext,
  options: Options,
  operands: readonly string[],
) => Promise<number | undefined>;

/** Loads what a command does only when it is called, so that `status` does not pay for `doctor`. */
export type Load<Options> = () => Promise<Handler<Options>>;

/** Makes commander's action from a handler; the runner decides what surrounds it. */
export type Bind = <Options extends object>(
  load: Load<Options>,
) => (...actionArguments: unknown[]) => Promise<void>;

/** Adds --dry-run and --yes to a command that changes something. */
export function changing(command: Command): Command {
  return command
    .option("--dry-run", "run every check, print what would be done, change nothing")
    .option("--yes", "do not ask; needed when there is no terminal");
}

/** An option with a closed list of values. */
export function choice(flags: string, description: string, values: readonly string[]): Option {
  return new Option(flags, description).choices(values);
}
