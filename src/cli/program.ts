import { Command } from "commander";
import type { CliIo } from "./io.ts";
import { collect } from "./option-values.ts";
import type { Bind } from "./tree/bind.ts";
import { addChangingCommands, addReadingCommands } from "./tree/cluster-commands.ts";
import { addBackupCommands } from "./tree/backup-commands.ts";
import { addRestoreCommands } from "./tree/backup-restore-commands.ts";
import { addRouterCommands } from "./tree/router-commands.ts";
import { addConfigCommands, addDemoCommands, addNodeCommands, addOwnCommands } from "./tree/host-commands.ts";

/**
 * The whole command tree: names, options and help, without what the commands do. The runner, the completion scripts and
 * the reference page all come from it, so that they cannot drift apart.
 */
export function createProgram(bind: Bind, io: Pick<CliIo, "stdout" | "stderr">): Command {
  const program = new Command("pgherd")
    .description("keep a PostgreSQL cluster writable: leader decisions, failover, return of old primaries")
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      // The runner prints errors in the one form all errors have.
      outputError: () => undefined,
      getOutHelpWidth: () => 100,
      getErrHelpWidth: () => 100,
    })
    .configureHelp({ showGlobalOptions: true })
    .helpCommand("help [command]", "show the help of a command")
    .helpOption("-h, --help", "show the help")
    .option("-c, --config <file>", "find the cluster by a node file")
    .option("--api <url>", "find the cluster by an agent's API (repeatable)", collect)
    .option("--dir <dir>", "find the cluster by the directory of a demo")
    .option("--token-file <file>", "token for changes (default: PGHERD_TOKEN, else the node's own secrets)")
    .option("--ca-file <file>", "certificate authorities that vouch for the API")
    .option("--json", "print one JSON document on standard output")
    .option("--utc", "show times in UTC")
    .option("--no-color", "no colours; NO_COLOR does the same");
  addReadingCommands(program, bind);
  addChangingCommands(program, bind);
  addNodeCommands(program, bind);
  addRouterCommands(program, bind);
  addRestoreCommands(addBackupCommands(program, bind), bind);
  addConfigCommands(program, bind);
  addDemoCommands(program, bind);
  addOwnCommands(program, bind);
  return program;
}

/** One command that can be called, with the words that lead to it. */
export interface CommandPath {
  readonly words: readonly string[];
  readonly command: Command;
}

/** All commands below `command` that do something themselves, in the order of the help. */
export function commandPaths(command: Command, words: readonly string[] = []): CommandPath[] {
  if (command.commands.length === 0) return [{ words, command }];
  return command.commands.flatMap((child) => commandPaths(child, [...words, child.name()]));
}
