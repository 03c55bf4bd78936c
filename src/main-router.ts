import { createHash } from "node:crypto";
import type { Log } from "./agent/context.ts";
import { openStateFiles } from "./agent/state-files.ts";
import { tellMainProcess, tellServiceManager } from "./agent/service-watchdog.ts";
import { RouterAgents } from "./api/router-agents.ts";
import { ownVersion } from "./cli/own-version.ts";
import type { NodeRecord } from "./cluster/records.ts";
import type { RouterSettings } from "./config/router-config.ts";
import { loadRouterSettings } from "./config/router-file.ts";
import { keys, parseSecrets } from "./dcs/layout.ts";
import { openDcs } from "./dcs/open.ts";
import { startDaemon } from "./daemon-start.ts";
import { programFile } from "./program-file.ts";
import { createLog } from "./program-log.ts";
import { ClusterFeed } from "./router/feed.ts";
import { RouterProcess } from "./router/process.ts";
import { Inheritance } from "./router/inheritance.ts";
import { Successor } from "./router/successor.ts";
import { TokenMemory } from "./router/token-memory.ts";
import { systemClock } from "./system/clock.ts";
import { systemRandom } from "./system/random.ts";
import { systemTimers } from "./system/timers.ts";
import { toFault } from "./values/fault.ts";
import { Secret } from "./values/secret.ts";

/** How often it is said that the store does not answer yet. */
const waitingLineMs = 10_000;

const usage = "usage: pgherd router --config ROUTER.yml [--supervised]\n";

/** `pgherd router --config FILE`: runs until it is told to end. @returns the exit code */
export async function routerMain(argv: readonly string[]): Promise<number> {
  if (argv.includes("--supervised")) {
    const { supervisorMain } = await import("./main-supervisor.ts");
    return supervisorMain(argv, "router");
  }
  return startDaemon(argv, usage, { config: { type: "string", short: "c" } }, runRouter);
}

async function runRouter(file: string): Promise<number> {
  const told = new EndSignal();
  const inheritance = Inheritance.take(process.env, systemTimers);
  const settings = await loadRouterSettings(file, process.env);
  const log = createLog(settings.log, { cluster: settings.cluster, router: settings.router });
  const files = await openStateFiles(settings.stateDir);
  const dcs = await openDcs(settings, {
    clock: systemClock,
    timers: systemTimers,
    logger: { info: (fields, text) => log("debug", "dcs", { ...fields, text }) },
  });
  const cluster: { secrets: ReturnType<typeof parseSecrets> | null } = { secrets: null };
  const agents = new RouterAgents({
    token: () => (cluster.secrets === null ? null : new Secret(cluster.secrets.api.token)),
    caFile: settings.agents.caFile,
    timers: systemTimers,
  });
  const begun: { router: RouterProcess | null } = { router: null };
  const feed = new ClusterFeed({
    dcs,
    agents,
    openAfterArchiveMs: () => (begun.router?.settings ?? settings).openAfterArchiveMs,
    tokens: await TokenMemory.open(files, log),
    clock: systemClock,
    timers: systemTimers,
    log,
    onOrders: (now, before) => begun.router?.ordered(now, before),
  });
  feed.open();
  const endTelling = tellServiceManager(process.env, systemTimers);
  try {
    cluster.secrets = await secretsOf(feed, settings, log, told.signal);
    if (cluster.secrets === null) return 0;
    const { superuser, api } = cluster.secrets;
    const router = new RouterProcess({
      settings,
      reload: () => loadRouterSettings(file, process.env),
      feed,
      dcs,
      verifiers: agents.verifiers(() => nodesToAsk(feed)),
      orderRouting: (order, node) => agents.orderRouting(nodesToAsk(feed), order, node),
      superuser: superuser.username,
      token: () => cluster.secrets?.api.token ?? null,
      // The same on every router: whether a user exists must not show in the answers.
      mockSecret: createHash("sha256").update(`mock authentication ${api.token}`).digest(),
      vipGuardCommand: [process.execPath, programFile(), "vip-guard"],
      version: ownVersion(),
      clock: systemClock,
      timers: systemTimers,
      random: systemRandom,
      log,
      inheritance,
      shutdown: () => told.tell(),
    });
    begun.router = router;
    await router.start();
    process.on("SIGHUP", () => {
      router
        .reload()
        .catch((thrown: unknown) => log("error", "reload.failed", { ...toFault(thrown).report() }));
    });
    const upgrade = new Upgrade(router, file, log);
    process.on("SIGUSR2", () => void upgrade.begin(endTelling));
    await Promise.race([told.ended, upgrade.handedOver.then(() => router.drained(told.signal))]);
    await router.stop();
    return 0;
  } finally {
    endTelling();
    feed.close();
    await dcs.close();
  }
}

/** The cluster's secrets as the store has them; waits for the store, and for a cluster. null = told to end meanwhile */
async function secretsOf(
  feed: ClusterFeed,
  settings: RouterSettings,
  log: Log,
  end: AbortSignal,
): Promise<ReturnType<typeof parseSecrets> | null> {
  let saidAt = systemClock.now();
  while (!end.aborted) {
    const text = feed.entry(keys.secrets);
    if (text !== null) return parseSecrets(text);
    if (systemClock.now() - saidAt > waitingLineMs) {
      saidAt = systemClock.now();
      log("warn", "router.waiting", {
        for: feed.cluster() === null ? "the store" : `the cluster ${settings.cluster}`,
        endpoints: settings.dcs.endpoints.join(", "),
      });
    }
    await systemTimers.sleep(50, end);
  }
  return null;
}

/** The agents that may be asked, the primary's first. */
function nodesToAsk(feed: ClusterFeed): readonly NodeRecord[] {
  const primary = feed.current().primary?.node;
  return [...(feed.cluster()?.nodes.values() ?? [])]
    .map((node) => node.value)
    .sort((a, b) => Number(b.name === primary) - Number(a.name === primary));
}

/** Whether whoever started this process starts it again when it dies. */
function isSupervised(): boolean {
  return process.env["PGHERD_SUPERVISOR"] !== undefined;
}

/** Another process takes this one's place, on the same sockets. */
class Upgrade {
  readonly #router: RouterProcess;
  readonly #file: string;
  readonly #log: Log;
  readonly handedOver: Promise<void>;
  #done: () => void = () => undefined;
  #begun = false;

  constructor(router: RouterProcess, file: string, log: Log) {
    this.#router = router;
    this.#file = file;
    this.#log = log;
    this.handedOver = new Promise((resolve) => (this.#done = resolve));
  }

  /** @param leaveServiceManager what tells it that this process lives: from then on the new one does */
  async begin(leaveServiceManager: () => void): Promise<void> {
    if (this.#begun) return;
    if (isSupervised()) {
      this.#log("warn", "router.upgrade_refused", {
        hint: "A supervised router is upgraded by its supervisor's restart.",
      });
      return;
    }
    this.#begun = true;
    const router = this.#router;
    try {
      this.#log("info", "router.upgrading");
      const successor = await Successor.start({
        command: [process.execPath, ...process.execArgv, programFile(), "router", "--config", this.#file],
        sockets: router.sockets(),
        onCancel: (request) => router.cancel(request),
        timers: systemTimers,
      });
      leaveServiceManager();
      tellMainProcess(process.env, successor.pid);
      successor.leave(await router.handOver());
      this.#done();
    } catch (thrown) {
      this.#begun = false;
      this.#log("error", "router.upgrade_failed", { ...toFault(thrown).report() });
    }
  }
}

/** Told to end, from the first moment on; a second signal ends at once. */
class EndSignal {
  readonly #controller = new AbortController();
  readonly ended: Promise<void>;

  constructor() {
    this.ended = new Promise((resolve) => {
      this.#controller.signal.addEventListener("abort", () => resolve());
    });
    for (const signal of ["SIGTERM", "SIGINT"] as const)
      process.on(signal, () => {
        if (this.#controller.signal.aborted) process.exit(1);
        this.tell();
      });
    if (isSupervised()) process.send?.({ ready: true }, undefined, undefined, () => undefined);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  tell(): void {
    this.#controller.abort();
  }
}
