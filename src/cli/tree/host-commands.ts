import { Argument, InvalidArgumentError, type Command } from "commander";
import { nodeCheckNames } from "../node-check.ts";
import { collect, duration, size, wholeNumber } from "../option-values.ts";
import { changing, choice, type Bind } from "./bind.ts";

/** Commands about one node. */
export function addNodeCommands(program: Command, bind: Bind): void {
  const node = program.command("node").description("bring one node in, bring it back, check it");
  changing(
    node
      .command("clone")
      .description("let an empty or failed node copy the cluster anew")
      .argument("<node>", "the node")
      .option("--from-leader", "copy from the leader, not from a standby")
      .option("--no-wait", "return when the copy has begun")
      .option("--timeout <duration>", "how long to wait for the end", duration(1000, 86_400_000), 3_600_000),
  ).action(bind(async () => (await import("../commands/reinit.ts")).clone));
  changing(
    node
      .command("rejoin")
      .description("see an old primary back as a standby: say how it returns, and wait until it streams")
      .argument("<node>", "the node")
      .option("--timeout <duration>", "how long to wait for the end", duration(1000, 86_400_000), 600_000),
  ).action(bind(async () => (await import("../commands/rejoin.ts")).rejoin));
  node
    .command("check")
    .description("check a node for a monitoring system: Nagios output and exit codes 0, 1, 2, 3")
    .argument("[node]", "the node (default: the one of --config)")
    .addOption(choice("--only <check>", "only this check (repeatable)", nodeCheckNames).argParser(onlyCheck))
    .option("--lag-warning <size>", "replication lag that warns", size, 16 * 1024 ** 2)
    .option("--lag-critical <size>", "replication lag that is critical", size, 256 * 1024 ** 2)
    .action(bind(async () => (await import("../commands/check.ts")).check));
}

function onlyCheck(value: string, previous: readonly string[] | undefined): readonly string[] {
  if (!nodeCheckNames.some((name) => name === value))
    throw new InvalidArgumentError(`Allowed choices are ${nodeCheckNames.join(", ")}.`);
  return collect(value, previous);
}

/** Commands about settings and node files. */
export function addConfigCommands(program: Command, bind: Bind): void {
  const config = program.command("config").description("cluster settings, and checks of configuration files");
  config
    .command("show")
    .description("show the cluster settings in force, as YAML")
    .option("--stored", "only what was set, without the defaults")
    .action(bind(async () => (await import("../commands/config.ts")).show));
  changing(
    config
      .command("edit")
      .description("edit the cluster settings in $EDITOR; the change is shown before it is made"),
  ).action(bind(async () => (await import("../commands/config.ts")).edit));
  changing(
    config
      .command("set")
      .description("set cluster settings: ttl=10, postgresql.parameters.work_mem=8MB; null takes one back")
      .argument("<key=value...>", "the settings"),
  ).action(bind(async () => (await import("../commands/config.ts")).set));
  config
    .command("diff")
    .description("show how a file of cluster settings differs from those that are set")
    .argument("<file>", "a YAML file; - is standard input")
    .action(bind(async () => (await import("../commands/config.ts")).diff));
  config
    .command("check")
    .description(
      "check a node file, a router file or a file of cluster settings; all problems at once, with line and column",
    )
    .argument("<file>", "the YAML file")
    .addOption(
      choice("--kind <kind>", "what the file is (default: told by its keys)", [
        "node",
        "router",
        "backup",
        "settings",
      ]),
    )
    .action(bind(async () => (await import("../commands/config-check.ts")).check));
  program
    .command("doctor")
    .description("check host, versions, clocks, disk, DCS, connections and budgets, with what to do")
    .action(bind(async () => (await import("../commands/doctor.ts")).doctor));
}

/** The demo: a whole cluster on this machine. */
export function addDemoCommands(program: Command, bind: Bind): void {
  const demo = program.command("demo").description("a whole cluster on this machine, to try things out");
  demo
    .command("up")
    .description(
      "start etcd, agents with their PostgreSQL and a router, wait until all is well, and say how to connect",
    )
    .option("--nodes <count>", "how many nodes (default: 3)", wholeNumber(1, 9))
    .option("--dcs-members <count>", "how many etcd members (default: 3)", wholeNumber(1, 5))
    .option("--ttl <duration>", "length of the leader lease (default: 5 s)", duration(2000, 600_000))
    .option("--set <key=value>", "a cluster setting (repeatable)", collect)
    .option("--no-router", "no router in front of the nodes")
    .option("--with-backup", "with a backup server and its first backup; a demo that has none gets one")
    .action(bind(async () => (await import("../commands/demo.ts")).up));
  demo
    .command("status")
    .description("show the demo: its nodes, processes and connection strings")
    .action(bind(async () => (await import("../commands/demo.ts")).status));
  demo
    .command("down")
    .description("stop everything of the demo")
    .option("--keep", "keep its directory")
    .action(bind(async () => (await import("../commands/demo.ts")).down));
  const targets = ["agent", "postgres", "guard", "host", "router"];
  demo
    .command("kill")
    .description("kill a part of a node, or the router, with SIGKILL")
    .argument("[node]", "the node, or `router`")
    .addOption(choice("--what <part>", "what to kill", targets).default("host"))
    .action(bind(async () => (await import("../commands/demo.ts")).kill));
  demo
    .command("start")
    .description("start a node, or the router, again")
    .argument("[node]", "the node, or `router`")
    .addOption(choice("--what <part>", "what to start", targets).default("host"))
    .action(bind(async () => (await import("../commands/demo.ts")).start));
}

/** Commands about pgherd itself. */
export function addOwnCommands(program: Command, bind: Bind): void {
  program
    .command("completion")
    .description("print the completion script of a shell")
    .addArgument(new Argument("<shell>", "the shell").choices(["bash", "zsh", "fish"]))
    .action(bind(async () => (await import("../commands/own.ts")).completion));
  program
    .command("version")
    .description("show the version of pgherd, of Node, and of the agents when a cluster is named")
    .action(bind(async () => (await import("../commands/own.ts")).version));
  program
    .command("agent")
    .description("run the agent of this host in the foreground; needs --config")
    .option("--supervised", "start it again when it dies")
    .action(bind(async () => (await import("../commands/own.ts")).misplacedDaemon));
}
