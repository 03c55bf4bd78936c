import type { Command } from "commander";
import { duration } from "../option-values.ts";
import { changing, type Bind } from "./bind.ts";

/** Commands about routers; `pgherd router --config FILE` itself is the daemon (src/main.ts). */
export function addRouterCommands(program: Command, bind: Bind): void {
  const router = program
    .command("router")
    .description("run a router in the foreground (router --config FILE), look at routers, give them orders");
  router
    .command("status")
    .description("show the routers, their sessions, and what a switchover would cut")
    .action(bind(async () => (await import("../commands/router.ts")).status));
  router
    .command("sessions")
    .description("show the clients of the routers: where they are, and what pins them")
    .option("--router <name>", "only of this router")
    .action(bind(async () => (await import("../commands/router.ts")).sessions));
  changing(
    router
      .command("detach")
      .description("give a node no new clients, in all routers; sessions there go on")
      .argument("<node>", "the node"),
  ).action(bind(async () => (await import("../commands/router.ts")).detach));
  changing(
    router
      .command("drain")
      .description("detach a node, and let its sessions leave as soon as they rest")
      .argument("<node>", "the node"),
  ).action(bind(async () => (await import("../commands/router.ts")).drain));
  changing(
    router.command("attach").description("give a node clients again").argument("<node>", "the node"),
  ).action(bind(async () => (await import("../commands/router.ts")).attach));
  changing(
    router
      .command("pause")
      .description("let new transactions wait in all routers, for a bounded time")
      .option("--for <duration>", "how long at most", duration(100, 3_600_000), 60_000),
  ).action(bind(async () => (await import("../commands/router.ts")).pause));
  changing(router.command("resume").description("end the pause of the routers")).action(
    bind(async () => (await import("../commands/router.ts")).resume),
  );
}
