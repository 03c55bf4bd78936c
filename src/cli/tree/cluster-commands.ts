import type { Command } from "commander";
import { collect, duration, wholeNumber } from "../option-values.ts";
import { changing, choice, type Bind } from "./bind.ts";

/** Commands that look at the cluster. */
export function addReadingCommands(program: Command, bind: Bind): void {
  program
    .command("status")
    .description("show the nodes, who leads, how far each is behind, and what needs attention")
    .option(
      "-w, --watch [seconds]",
      "redraw until interrupted (default: every 2 s)",
      duration(200, 3_600_000),
    )
    .action(bind(async () => (await import("../commands/status.ts")).status));
  program
    .command("topology")
    .description("show who streams from whom, as a tree")
    .action(bind(async () => (await import("../commands/status.ts")).topology));
  program
    .command("history")
    .description("show the timelines that ended: where, when, why, and who led next")
    .action(bind(async () => (await import("../commands/records.ts")).history));
  program
    .command("events")
    .description("show what happened, from all nodes, the newest last")
    .option("-n, --last <count>", "how many", wholeNumber(1, 1000), 20)
    .option("--node <node>", "only of this node")
    .option("--event <name>", "only events of this name (repeatable)", collect)
    .action(bind(async () => (await import("../commands/records.ts")).events));
  program
    .command("explain")
    .description("show why pgherd did what it did: the rule, the facts it saw, and how it ended")
    .option("-n, --last <count>", "how many decisions", wholeNumber(1, 1000), 5)
    .option("--node <node>", "only decisions of this node")
    .action(bind(async () => (await import("../commands/records.ts")).explain));
  program
    .command("replication")
    .description("show pg_stat_replication of the whole cluster")
    .action(bind(async () => (await import("../commands/replication.ts")).replication));
  const cluster = program.command("cluster").description("look at the cluster from every node");
  cluster
    .command("matrix")
    .description("show who reaches whom, on which channel")
    .action(bind(async () => (await import("../commands/replication.ts")).matrix));
}

/** Commands that change the cluster. */
export function addChangingCommands(program: Command, bind: Bind): void {
  changing(
    program
      .command("switchover")
      .description("move the primary to another node, without losing a commit")
      .option("--to <node>", "the node that takes over (default: the best candidate)")
      .option("--from <node>", "refuse unless this node leads")
      .option("--at <time>", "do it later: ISO 8601 with offset, such as 2026-11-21T02:00:00+01:00")
      .option("--cancel", "forget a switchover that waits for its time")
      .option("--timeout <duration>", "how long to wait for the end", duration(1000, 3_600_000), 60_000),
  ).action(bind(async () => (await import("../commands/move.ts")).switchover));
  changing(
    program
      .command("failover")
      .description("make a named node primary although there is no healthy leader")
      .requiredOption("--to <node>", "the node that takes over")
      .option("--accept-loss", "promote it although commits may be lost; the bytes are recorded")
      .option("--timeout <duration>", "how long to wait for the end", duration(1000, 3_600_000), 60_000),
  ).action(bind(async () => (await import("../commands/move.ts")).failover));
  changing(
    program
      .command("restart")
      .description("restart PostgreSQL on nodes, the leader last")
      .argument("[node...]", "the nodes")
      .option("--all", "every node")
      .option("--if-pending", "only where a parameter waits for a restart")
      .addOption(choice("--role <role>", "only nodes of this role", ["primary", "standby"]))
      .option("--timeout <duration>", "how long each node may take", duration(1000, 3_600_000), 120_000),
  ).action(bind(async () => (await import("../commands/operate.ts")).restart));
  changing(
    program
      .command("reload")
      .description("let nodes read their node file and the cluster settings again")
      .argument("[node...]", "the nodes")
      .option("--all", "every node"),
  ).action(bind(async () => (await import("../commands/operate.ts")).reload));
  changing(
    program
      .command("reinit")
      .description("copy a standby anew from another node; what it has is kept until the copy streams")
      .argument("<node>", "the node")
      .option("--from-leader", "copy from the leader, not from a standby")
      .option("--no-wait", "return when the copy has begun")
      .option("--timeout <duration>", "how long to wait for the end", duration(1000, 86_400_000), 3_600_000),
  ).action(bind(async () => (await import("../commands/reinit.ts")).reinit));
  changing(
    program
      .command("pause")
      .description("let pgherd only watch: nothing is promoted, started or stopped by itself"),
  ).action(bind(async () => (await import("../commands/operate.ts")).pause));
  changing(program.command("resume").description("let pgherd act by itself again")).action(
    bind(async () => (await import("../commands/operate.ts")).resume),
  );
  changing(
    program
      .command("remove")
      .description("forget a node whose agent no longer runs")
      .argument("<node>", "the node"),
  ).action(bind(async () => (await import("../commands/operate.ts")).remove));
}
