import type { Command } from "commander";
import { duration, size, wholeNumber } from "../option-values.ts";
import { changing, choice, type Bind } from "./bind.ts";

/** Commands about backups; `pgherd backup serve --config FILE` itself is the daemon (src/main.ts). */
export function addBackupCommands(program: Command, bind: Bind): Command {
  const backup = program
    .command("backup")
    .description(
      "run a backup server (backup serve --config FILE), look at backups, take, prove and restore them",
    );
  addReading(backup, bind);
  addJobs(backup, bind);
  addChanges(backup, bind);
  addWal(backup, bind);
  return backup;
}

/** Options every command about backups takes. */
export function aboutBackups(command: Command): Command {
  return command
    .option("--server <url>", "the backup server (default: the cluster's own, PGHERD_BACKUP)")
    .option("--cluster <name>", "which of its clusters, where it has several");
}

function addReading(backup: Command, bind: Bind): void {
  aboutBackups(
    backup.command("list").description("show the backups, and from when to when the cluster can be restored"),
  ).action(bind(async () => (await import("../commands/backup.ts")).list));
  aboutBackups(
    backup
      .command("show")
      .description("show everything about one backup")
      .argument("[backup]", "an id, its beginning, a label, `latest` or `oldest`", "latest"),
  ).action(bind(async () => (await import("../commands/backup.ts")).show));
  aboutBackups(
    backup
      .command("status")
      .description("show the receiver, the archive, the last backup and proof, and what comes next"),
  ).action(bind(async () => (await import("../commands/backup.ts")).status));
  aboutBackups(
    backup
      .command("check")
      .description("check everything; exit codes as Nagios has them: 0 ok, 1 warning, 2 critical, 3 unknown")
      .option("--nagios", "one line with performance data"),
  ).action(bind(async () => (await import("../commands/backup.ts")).check));
  aboutBackups(
    backup.command("forecast").description("when the repository will be full, and how long a restore takes"),
  ).action(bind(async () => (await import("../commands/backup.ts")).forecast));
}

function addJobs(backup: Command, bind: Bind): void {
  aboutBackups(
    backup
      .command("run")
      .description("take a base backup now, and wait for its end")
      .option("--full", "take over nothing from earlier backups")
      .option("--from <source>", "auto (the best standby, else the primary), primary, standby, or a node")
      .option("--label <text>", "a name for it")
      .option("--rate <size>", "bytes a second at most, such as 50MB", size)
      .addOption(
        choice("--checkpoint <how>", "how the checkpoint before it is written", ["fast", "spread"]).default(
          "fast",
        ),
      )
      .option("--no-wait", "do not wait for its end"),
  ).action(bind(async () => (await import("../commands/backup-change.ts")).run));
  aboutBackups(
    backup
      .command("verify")
      .description(
        "read what is stored and check it; of a repository named here, or where its server is down, without a server",
      )
      .argument("[backup]", "only this backup (default: all of them, and the WAL)")
      .option("--repository <dir>", "this repository, read here and not changed; no server is asked")
      .option("--key-file <file>", "with --repository: its key, where it is encrypted")
      .option("--no-wait", "do not wait for its end"),
  ).action(bind(async () => (await import("../commands/backup-verify.ts")).verify));
  aboutBackups(
    backup
      .command("drill")
      .description(
        "restore a backup to scratch, start it, look whether all is well, and record how long it took",
      )
      .argument("[backup]", "which one (default: the latest)")
      .option("--no-wait", "do not wait for its end"),
  ).action(bind(async () => (await import("../commands/backup-change.ts")).drill));
  aboutBackups(
    backup
      .command("collect")
      .description("delete what no backup needs; the server does it after retention by itself")
      .option("--dry-run", "only say what would be deleted")
      .option("--no-wait", "do not wait for its end"),
  ).action(bind(async () => (await import("../commands/backup-change.ts")).collect));
  aboutBackups(
    backup.command("cancel").description("end a job at its next safe point").argument("<job>", "its id"),
  ).action(bind(async () => (await import("../commands/backup-change.ts")).cancel));
}

function addChanges(backup: Command, bind: Bind): void {
  aboutBackups(
    changing(
      backup
        .command("delete")
        .description("delete a backup, and the WAL that only it needs")
        .argument("<backup>", "an id, its beginning or a label"),
    ),
  ).action(bind(async () => (await import("../commands/backup-change.ts")).remove));
  aboutBackups(
    backup
      .command("keep")
      .description("keep a backup whatever retention says")
      .argument("<backup>", "an id, its beginning or a label")
      .option("--standalone", "only with the WAL it needs itself"),
  ).action(bind(async () => (await import("../commands/backup-change.ts")).keep));
  aboutBackups(
    backup
      .command("release")
      .description("leave a kept backup to retention again")
      .argument("<backup>", "an id, its beginning or a label"),
  ).action(bind(async () => (await import("../commands/backup-change.ts")).release));
  aboutBackups(
    backup
      .command("point")
      .description("make a named restore point on the primary")
      .argument("<name>", "its name"),
  ).action(bind(async () => (await import("../commands/backup-change.ts")).point));
}

function addWal(backup: Command, bind: Bind): void {
  const wal = backup.command("wal").description("the archived WAL");
  aboutBackups(
    wal
      .command("list")
      .description("show timelines, gaps, and the last segments")
      .option("--limit <count>", "so many segments", wholeNumber(1, 100_000), 10),
  ).action(bind(async () => (await import("../commands/backup.ts")).walList));
  aboutBackups(
    wal
      .command("switch")
      .description("end the primary's segment, so that it is archived")
      .option("--archive", "wait until it is")
      .option("--timeout <duration>", "how long at most", duration(1000, 3_600_000), 30_000),
  ).action(bind(async () => (await import("../commands/backup-change.ts")).walSwitch));
  aboutBackups(
    changing(
      wal
        .command("reset")
        .description("give up WAL that no server has any more, record the gap, take a backup"),
    ),
  ).action(bind(async () => (await import("../commands/backup-change.ts")).walReset));
}
