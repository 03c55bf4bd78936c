import type { Log } from "../agent/context.ts";
import type { RouterListener } from "../cluster/records.ts";
import type { RouterSettings } from "../config/router-config.ts";
import type { Dcs } from "../dcs/dcs.ts";
import type { RoutingOrders } from "../dcs/layout-routers.ts";
import type { Clock } from "../system/clock.ts";
import type { Random } from "../system/random.ts";
import type { Timers } from "../system/timers.ts";
import { Fault, toFault } from "../values/fault.ts";
import type { NodeName } from "../values/names.ts";
import { RouterConsole } from "./console/console.ts";
import { routerControl } from "./console/control.ts";
import type { ListenerView, RouterSource } from "./console/source.ts";
import type { ClusterFeed } from "./feed.ts";
import type { CancelKey } from "./cancel.ts";
import type { Inheritance } from "./inheritance.ts";
import { startKernelPaths, type KernelPaths } from "./kernel/kernel-paths.ts";
import { listenersProblem } from "./metrics/figures.ts";
import { startRouterHttp, type RouterHttp } from "./metrics/http.ts";
import { RouterRegister, type RouterSelf } from "./register.ts";
import { startRouter, type Router } from "./router.ts";
import { newCounters } from "./sessions.ts";
import type { VerifierSource } from "./verifiers.ts";
import type { ListeningSocket } from "./successor.ts";
import { noVips, requireVips, startVips, type Vips } from "./vip/vips.ts";

/** How often a process that was replaced looks whether clients are left. */
const drainLookMs = 100;

/** What a router process is made of; main-router.ts chooses the adapters. */
export interface RouterParts {
  readonly settings: RouterSettings;
  /** Reads the file again. @throws Fault CONFIG_INVALID, CONFIG_UNREADABLE */
  readonly reload: () => Promise<RouterSettings>;
  readonly feed: ClusterFeed;
  readonly dcs: Dcs;
  readonly verifiers: VerifierSource;
  /** Gives all routers of the cluster an order. @throws Fault */
  readonly orderRouting: (order: "detach" | "drain" | "attach", node: NodeName) => Promise<void>;
  /** May always use the console. */
  readonly superuser: string;
  readonly token: () => string | null;
  readonly mockSecret: Buffer;
  readonly vipGuardCommand: readonly string[];
  readonly version: string;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  /** What the process before this one left; null = there was none. */
  readonly inheritance: Inheritance | null;
  /** Begins a graceful end of the process. */
  readonly shutdown: () => void;
}

interface Running {
  readonly router: Router;
  readonly console: RouterConsole;
  // What another process takes over.
  kernel: KernelPaths;
  register: RouterRegister;
  vips: Vips;
  http: RouterHttp;
}

/** Puts one router together: listeners, kernel paths, virtual addresses, console, metrics, its record in the store. */
export class RouterProcess {
  readonly #parts: RouterParts;
  readonly #log: Log;
  readonly #errors = new Map<string, number>();
  readonly #startedAt;
  #settings: RouterSettings;
  #running: Running | null = null;
  /** Another process has taken this one's place; its last clients are still here. */
  #handedOver = false;

  constructor(parts: RouterParts) {
    this.#parts = parts;
    this.#settings = withSuperuser(parts.settings, parts.superuser);
    this.#startedAt = parts.clock.wall();
    this.#log = (level, event, fields = {}) => {
      const { code } = fields;
      if (level !== "debug" && typeof code === "string")
        this.#errors.set(code, (this.#errors.get(code) ?? 0) + 1);
      parts.log(level, event, fields);
    };
  }

  /** @throws Fault ROUTER_NAME_IN_USE, PORT_OCCUPIED, CONFIG_*, CAPABILITY_MISSING, TOOL_MISSING; nothing is left open then */
  async start(): Promise<void> {
    const { feed, clock, timers, inheritance } = this.#parts;
    const log = this.#log;
    const register = this.#createRegister(this.#settings.router);
    await register.claim();
    const opened: (() => Promise<unknown>)[] = [];
    try {
      const kernel = await startKernelPaths({
        settings: this.#settings,
        access: () => this.#settings.access,
        ...{ feed, clock, timers, log },
      });
      opened.push(() => kernel.close());
      this.#settings = kernel.settings;
      // The console exists before the listeners that lead to it, and shows the router that is made with it.
      const begun: { router: Router | null; console: RouterConsole | null } = { router: null, console: null };
      const router = await startRouter({
        ...this.#parts,
        settings: () => this.#settings,
        log,
        onConsole: (client) => begun.console?.serve(client),
        onGateAnswer: () => register.changed(),
      });
      opened.push(() => router.stop(0));
      const source = this.#source();
      const control = routerControl({
        router,
        nodes: () => [...(feed.cluster()?.nodes.keys() ?? [])],
        orderRouting: this.#parts.orderRouting,
        reload: () => this.reload(),
        shutdown: this.#parts.shutdown,
      });
      const note = (line: string): void => log("info", "console.order", { line });
      const console = new RouterConsole({ source, control, clock, timers, note });
      begun.console = console;
      const { listen, port } = this.#settings.metrics;
      const fd = inheritance?.takeFd({ listen, port });
      const { token } = this.#parts;
      const http = await startRouterHttp({ source, control, listen, port, fd, token, note, timers });
      opened.push(() => http.close());
      requireVips(this.#settings);
      this.#running = { router, kernel, register, vips: noVips(), console, http };
      // Only when this one takes clients does the process before it leave the record and the addresses.
      this.#running.vips = this.#startVips((await inheritance?.serving()) ?? null);
    } catch (thrown) {
      this.#running = null;
      for (const close of opened.reverse()) await close().catch(() => undefined);
      throw thrown;
    }
    this.#running.vips.wake();
    register.open();
    this.ordered(feed.orders(), { detached: [], draining: [], pausedUntil: null });
    for (const { name, target, path, address, port } of this.#listeners())
      log("info", "listener.open", { listener: name, target, path, address, port });
    log("info", "router.started", { pid: process.pid, http: this.#running.http.url });
  }

  /** Those in force. */
  get settings(): RouterSettings {
    return this.#settings;
  }

  /** Carries out what operators ordered of all routers. */
  ordered(now: RoutingOrders, before: RoutingOrders): void {
    const running = this.#running;
    if (running === null) return;
    const { router, register } = running;
    for (const node of now.draining)
      if (!before.draining.includes(node))
        this.#log("info", "node.drain", { node, sessions: router.drain(node) });
    if (now.pausedUntil !== before.pausedUntil) {
      const forMs =
        now.pausedUntil === null ? 0 : Date.parse(now.pausedUntil) - Date.parse(this.#parts.clock.wall());
      if (forMs > 0) void router.pause(null, forMs, new AbortController().signal);
      else router.resume(null);
    }
    register.changed();
  }

  /** Reads the file again; ports, paths and addresses need a restart. @throws Fault; what was in force stays in force */
  async reload(): Promise<void> {
    const running = this.#running;
    if (running === null) return;
    const fresh = withSuperuser(await this.#parts.reload(), this.#parts.superuser);
    const before = this.#settings;
    const { access, limits, timeouts, openAfterArchiveMs } = fresh;
    const admin = { ...before.admin, users: fresh.admin.users };
    this.#settings = { ...before, access, limits, timeouts, openAfterArchiveMs, admin };
    try {
      await running.router.reload();
      running.kernel.reload();
    } catch (thrown) {
      this.#settings = before;
      throw thrown;
    }
    const inForce: Partial<Record<keyof RouterSettings, unknown>> = this.#settings;
    const later = (Object.keys(fresh) as (keyof RouterSettings)[]).filter(
      (key) => JSON.stringify(inForce[key]) !== JSON.stringify(fresh[key]),
    );
    this.#log("info", "router.reloaded", { ...(later.length > 0 && { after_a_restart: later.join(", ") }) });
  }

  /** The sockets that listen, for a process that takes this one's place. */
  sockets(): readonly ListeningSocket[] {
    const { router, http } = this.#required();
    const { listen, port } = this.#settings.metrics;
    return [...router.fronts.sockets(), ...(http.fd === null ? [] : [{ listen, port, fd: http.fd }])];
  }

  /** A request to cancel that came to the process that took this one's place. */
  cancel(request: CancelKey): Promise<void> {
    return this.#running?.router.fronts.cancel(request) ?? Promise.resolve();
  }

  /**
   * Another process listens on the same sockets: leaves it everything but the clients that are here. Their sessions stay in a
   * record of their own, so that a planned move asks for them too.
   * @returns what the virtual addresses are held under
   */
  async handOver(): Promise<string> {
    const running = this.#required();
    const { router, kernel, register, vips, http } = running;
    // First of all: a router that listens no more would give its addresses up.
    await vips.leave();
    running.vips = noVips();
    this.#handedOver = true;
    running.register = this.#createRegister(`${this.#settings.router.slice(0, 50)}.${process.pid}`);
    running.register.open();
    await Promise.all([router.stopListening(), register.leave(), kernel.leave(), http.close()]);
    running.kernel = { ...kernel, paths: [], close: () => Promise.resolve() };
    running.http = { ...http, close: () => Promise.resolve() };
    this.#log("info", "router.handed_over", { sessions: router.sessionCount });
    return vips.routerId;
  }

  /** Resolves when the last client has left, when `timeouts.upgrade` is over, or when the signal aborts. */
  async drained(end: AbortSignal): Promise<void> {
    const { clock, timers } = this.#parts;
    const { router } = this.#required();
    const until = clock.now() + this.#settings.timeouts.upgradeMs;
    const { fronts } = router;
    while (!end.aborted && clock.now() < until) {
      if (router.sessionCount + fronts.streams() + fronts.starting() === 0) return;
      await timers.sleep(drainLookMs, end);
    }
  }

  /** Gives up the virtual addresses, takes no new clients, lets transactions end, and goes. */
  async stop(): Promise<void> {
    const running = this.#running;
    if (running === null) return;
    const { router, kernel, register, vips, console, http } = running;
    this.#log("info", "router.stopping", { sessions: router.sessionCount });
    const closing = [
      () => vips.close(),
      () => kernel.close(),
      () => router.stop(this.#settings.timeouts.stopMs),
      () => register.close(),
      async () => {
        await Promise.resolve();
        console.close();
      },
      () => http.close(),
    ];
    for (const close of closing) {
      await close().catch((thrown: unknown) =>
        this.#log("warn", "stop.failed", { ...toFault(thrown).report() }),
      );
    }
    this.#running = null;
  }

  #startVips(inherited: string | null): Vips {
    return startVips({
      ...this.#parts,
      settings: this.#settings,
      guardCommand: this.#parts.vipGuardCommand,
      log: this.#log,
      // That nobody serves for a moment is no reason to move an address: every router sees the same, and sessions are held.
      unhealthy: () => (this.#running === null ? "the router is starting" : listenersProblem(this.#source())),
      inherited,
    });
  }

  #createRegister(name: string): RouterRegister {
    const { feed, dcs, version, clock, timers, random } = this.#parts;
    const { address } = this.#settings;
    return new RouterRegister({
      dcs,
      name,
      routerId: random.uuid(),
      version,
      host: address,
      self: () => this.#self(),
      recorded: () => {
        const found = feed.cluster()?.routers.get(name);
        return found === undefined ? null : { record: found.value, version: found.version };
      },
      clock,
      timers,
      log: this.#log,
    });
  }

  #self(): RouterSelf {
    const { feed } = this.#parts;
    const { router } = this.#required();
    const { address, metrics } = this.#settings;
    const { primary } = feed.current();
    const reached = this.#handedOver ? [] : this.#listeners();
    return {
      listeners: reached.map(({ name, target, path, address: listening, port }): RouterListener => ({
        name,
        target,
        path,
        address: isEverywhere(listening) ? address : listening,
        port,
      })),
      admin: this.#handedOver
        ? null
        : {
            address: isEverywhere(router.fronts.admin.address) ? address : router.fronts.admin.address,
            port: router.fronts.admin.port,
          },
      apiUrl: this.#handedOver
        ? null
        : `http://${urlHost(isEverywhere(metrics.listen) ? address : metrics.listen)}:${metrics.port}`,
      sessions: router.sessionCount,
      onPrimary: primary === null ? 0 : router.traffic(primary.node).sessions,
      pinned: router.pinned(),
      detached: [...feed.current().detached],
      gate: router.gate(),
      moved: router.moved(),
    };
  }

  #required(): Running {
    if (this.#running === null) throw new Fault("INTERNAL", "the router does not run");
    return this.#running;
  }

  #listeners(): readonly ListenerView[] {
    const { router, kernel } = this.#required();
    const inKernel = kernel.paths.map((path): ListenerView => {
      const { listener, state } = path.view();
      const settings = this.#settings.listeners.find(({ name }) => name === listener);
      return {
        name: listener,
        target: settings?.target ?? "primary",
        path: "kernel",
        address: settings?.listen ?? "*",
        port: settings?.port ?? 0,
        listening: state !== "fault",
        counters: newCounters(),
      };
    });
    return [...router.listeners(), ...inKernel];
  }

  #source(): RouterSource {
    const { feed, version } = this.#parts;
    const router = (): Router => this.#required().router;
    return {
      identity: {
        cluster: this.#settings.cluster,
        router: this.#settings.router,
        version,
        startedAt: this.#startedAt,
      },
      topology: () => feed.current(),
      topologyAgeMs: () => feed.ageMs(),
      cluster: () => feed.cluster(),
      listeners: () => this.#listeners(),
      sessions: () => router().sessions(),
      streams: () => router().fronts.streams(),
      traffic: (node) => router().traffic(node),
      routingTimes: () => router().routingTimes(),
      routers: () => feed.routers(),
      vips: () =>
        this.#required()
          .vips.view()
          .map(({ state, message, ...vip }) => ({ ...vip, held: state === "held", problem: message })),
      pauses: () => router().pauses(),
      settings: () => ({ ...this.#settings }),
      errors: () => this.#errors,
    };
  }
}

/** The superuser of the cluster may always use the console. */
function withSuperuser(settings: RouterSettings, superuser: string): RouterSettings {
  const users = [...new Set([superuser, ...settings.admin.users])];
  return { ...settings, admin: { ...settings.admin, users } };
}

function isEverywhere(address: string): boolean {
  return address === "*" || address === "0.0.0.0" || address === "::";
}

function urlHost(address: string): string {
  return address.includes(":") ? `[${address}]` : address;
}
