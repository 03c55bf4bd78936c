import type { Command } from "commander";
import { collect, wholeNumber } from "../option-values.ts";
import { aboutBackups } from "./backup-commands.ts";
import { changing, type Bind } from "./bind.ts";

/** `pgherd backup restore`, `recover` and `clone`, below `pgherd backup`. */
export function addRestoreCommands(backup: Command, bind: Bind): void {
  restoring(
    backup
      .command("restore")
      .description("restore a backup to a directory, up to a moment, a position, a transaction or a name")
      .argument("[backup]", "an id, its beginning or a label (default: the best one for the target)")
      .option("--to <dir>", "the data directory to make")
      .option("--on <node>", "on this node of the cluster, through its agent")
      .option("--delta", "write over a data directory of the same cluster; what is right in it is kept")
      .option("--start", "start PostgreSQL, wait until it has recovered, and say where it ended")
      .option(
        "--port <port>",
        "with --start: its port (default: the first free one from 5433 on)",
        wholeNumber(1, 65_535),
      )
      .option("--listen <addresses>", "with --start: the addresses it listens on", "localhost"),
  ).action(bind(async () => (await import("../commands/backup-restore.ts")).restore));
  targeted(
    changing(
      backup
        .command("recover")
        .description(
          "put the whole cluster back to an earlier state: everything after it is lost to the cluster",
        )
        .argument("[backup]", "an id, its beginning or a label (default: the best one for the target)")
        .option("--cluster <name>", "the cluster that goes back: with --yes its name must be given")
        .option("--cancel", "call off the one under way; possible until the cluster leaves its line"),
    ),
  ).action(bind(async () => (await import("../commands/backup-recover.ts")).recover));
  restoring(
    backup
      .command("clone")
      .description("make a running copy of the cluster beside it, as it was at any moment, on a free port")
      .argument("[backup]", "an id, its beginning or a label (default: the best one for the target)")
      .option("--to <dir>", "its data directory (default: <cluster>-clone here)")
      .option("--port <port>", "its port (default: the first free one from 5433 on)", wholeNumber(1, 65_535))
      .option("--listen <addresses>", "the addresses it listens on", "localhost"),
  ).action(bind(async () => (await import("../commands/backup-restore.ts")).clone));
}

/** Which state. */
function targeted(command: Command): Command {
  return command
    .option(
      "--time <time>",
      "the state at a moment: '2026-11-20 14:01' (this host's time zone), '14:01', with a zone, ISO 8601",
    )
    .option("--lsn <position>", "up to a position in the WAL")
    .option("--xid <id>", "up to a transaction", wholeNumber(3, 4_294_967_295))
    .option("--name <name>", "up to a named restore point")
    .option("--immediate", "as soon as the backup is consistent")
    .option(
      "--timeline <number>",
      "along this timeline (default: the cluster's)",
      wholeNumber(1, 4_294_967_295),
    )
    .option("--inclusive", "the target itself is part of the state (default)")
    .option("--exclusive", "the target itself is left out")
    .option("--jobs <number>", "objects of the repository read at the same time", wholeNumber(1, 64), 4);
}

function restoring(command: Command): Command {
  return changing(
    aboutBackups(
      targeted(command)
        .option(
          "--tablespace <place>",
          "where a tablespace goes: OID=DIR or OLD-DIR=DIR (repeatable)",
          collect,
        )
        .option("--tablespaces <dir>", "all other tablespaces below this directory")
        .option("--key-file <file>", "the key of an encrypted repository, where the backup server is asked")
        .option("--verify", "read every file again, and let pg_verifybackup do so")
        .option(
          "--bin-dir <dir>",
          "PostgreSQL's programs (default: those installed for the backup's version)",
        ),
    ),
  );
}
