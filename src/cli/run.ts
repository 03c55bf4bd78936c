import { Command, CommanderError } from "commander";
import { Fault, toFault } from "../values/fault.ts";
import { createContext, lookOf, type Connect } from "./context.ts";
import { exitCodes } from "./exit-code.ts";
import { CommandFailure, exitCodeOf, type Left } from "./failure.ts";
import type { CliIo } from "./io.ts";
import { createProgram } from "./program.ts";
import { errorLines } from "./render/error.ts";
import type { Bind } from "./tree/bind.ts";

/** How commands reach agents: over HTTP, loaded when first needed. */
const connectByHttp: Connect = async (target) => (await import("../api/client.ts")).createApiClient(target);

/** Runs one command line and returns its exit code. Never throws: every error is printed. */
export async function runCli(
  argv: readonly string[],
  io: CliIo,
  connect: Connect = connectByHttp,
): Promise<number> {
  let exitCode: number = exitCodes.done;
  // What a fault leaves behind that nobody has judged: known as soon as the command is.
  let left: Left = { kind: "none" };
  const bind: Bind =
    (load) =>
    async (...actionArguments) => {
      const command = actionArguments.at(-1);
      if (!(command instanceof Command))
        throw new TypeError("commander calls an action with its command last");
      if (changes(command)) left = { kind: "nothing" };
      const context = createContext(io, command, connect);
      const handler = await load();
      exitCode = (await handler(context, command.opts(), command.args)) ?? exitCodes.done;
    };
  const program = createProgram(bind, io);
  try {
    if (argv.length === 0) program.outputHelp();
    else await untilInterrupted(program.parseAsync(argv, { from: "user" }), io, () => left);
    return exitCode;
  } catch (thrown) {
    if (thrown instanceof CommanderError && thrown.exitCode === 0) return exitCodes.done;
    // Help instead of a command that needs a word more: the help itself says what is missing.
    if (thrown instanceof CommanderError && thrown.code === "commander.help") return exitCodes.usage;
    return report(thrown, left, argv, io);
  }
}

/** Whether the command, or what it is called for, changes something. */
function changes(command: Command): boolean {
  return command.options.some((option) => option.long === "--dry-run");
}

/** An interrupted command ends at once; what agents were asked to do goes on. Commands that redraw end by themselves. */
async function untilInterrupted(work: Promise<unknown>, io: CliIo, left: () => Left): Promise<void> {
  const ended = work.then(() => "ended" as const);
  const interrupted = new Promise<"interrupted">((resolve) => {
    // A turn later, so that a command that ends by itself is seen to end.
    const end = (): void => void io.timers.after(50, () => resolve("interrupted"));
    if (io.interrupted.aborted) end();
    else io.interrupted.addEventListener("abort", end, { once: true });
  });
  if ((await Promise.race([ended, interrupted])) === "ended") return;
  const fault = new Fault("TIMEOUT", "Interrupted before the end");
  const state = "What the agents were asked to do goes on: pgherd status, pgherd events";
  throw new CommandFailure(fault, left().kind === "none" ? { kind: "none" } : { kind: "partly", state });
}

function report(thrown: unknown, unjudged: Left, argv: readonly string[], io: CliIo): number {
  const failure = thrown instanceof CommandFailure ? thrown : null;
  const fault = failure?.fault ?? (thrown instanceof CommanderError ? usageFault(thrown) : toFault(thrown));
  const left = failure?.left ?? unjudged;
  // The parser may have failed before it met --json.
  const json = argv.includes("--json");
  const look = lookOf({ ...io, stdout: io.stderr }, { color: !argv.includes("--no-color") });
  if (json) io.stdout.write(`${JSON.stringify(fault.report(), null, 2)}\n`);
  io.stderr.write(`${errorLines(fault.report(), left, look).join("\n")}\n`);
  return exitCodeOf(fault, left);
}

/** Commander's sentence in the form of our own: its suggestion becomes the hint. */
function usageFault(error: CommanderError): Fault {
  const [sentence = "", suggestion] = error.message.replace(/^error: /, "").split("\n");
  const near = /\(Did you mean (.+)\?\)/.exec(suggestion ?? "")?.[1];
  return new Fault("USAGE", sentence.replaceAll("'", "`"), {
    hint: near === undefined ? "See pgherd --help, or --help after the command." : `Did you mean ${near}?`,
  });
}
