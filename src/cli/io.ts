import type { Clock } from "../system/clock.ts";
import type { Timers } from "../system/timers.ts";

/** A place text goes to. */
export interface Output {
  write(text: string): void;
  readonly terminal: boolean;
  /** Columns of the terminal; null when it is none. */
  readonly columns: number | null;
}

/** Everything a command touches besides the network and files: so that a test can stand in for a terminal. */
export interface CliIo {
  /** Results. With --json exactly one document. */
  readonly stdout: Output;
  /** Everything else: questions, notes, errors. */
  readonly stderr: Output;
  readonly inputIsTerminal: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** How this program was called, for lines to be typed again. */
  readonly program: string;
  /** Where relative paths begin. */
  readonly directory: string;
  readonly clock: Clock;
  readonly timers: Timers;
  /** Aborts when the user interrupts (SIGINT, SIGTERM) or nobody reads any more. */
  readonly interrupted: AbortSignal;
  /** Asks on stderr and reads a line; null when the input ended. */
  ask(question: string): Promise<string | null>;
  /** The whole of standard input; bounded to 1 MiB. @throws Fault USAGE */
  readInput(): Promise<string>;
  /** Opens the user's editor on the file and waits for its end. @throws Fault PROGRAM_FAILED */
  edit(file: string): Promise<void>;
}
