import { networkInterfaces } from "node:os";
import type { RouterSettings, VipSettings } from "../../config/router-config.ts";
import type { Dcs } from "../../dcs/dcs.ts";
import type { Clock } from "../../system/clock.ts";
import type { Random } from "../../system/random.ts";
import type { Timers } from "../../system/timers.ts";
import { requireHost } from "../host/capabilities.ts";
import { hostTools } from "../host/tool.ts";
import type { Topology, TopologyFeed } from "../topology.ts";
import { VipBook } from "./book.ts";
import { VipGuardClient } from "./guard-client.ts";
import { hostAddress } from "./host-address.ts";
import { VipKeeper, type VipView } from "./keeper.ts";
import { VipNotifier } from "./notify.ts";

export interface VipsOptions {
  readonly settings: RouterSettings;
  readonly feed: TopologyFeed;
  readonly dcs: Dcs;
  /** Starts the guard process (`src/main-vip-guard.ts`). */
  readonly guardCommand: readonly string[];
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: (
    level: "info" | "warn" | "error",
    event: string,
    fields?: Readonly<Record<string, unknown>>,
  ) => void;
  /**
   * Why this router cannot serve clients that others could (a listener that failed); null = it can. One that does not reach the store
   * cannot renew its locks anyway.
   */
  readonly unhealthy: () => string | null;
  /** What the process before this one was called in its locks, and left; null = there was none. */
  readonly inherited: string | null;
}

/** The virtual addresses of a running router. */
export interface Vips {
  /** What this process is called in its locks. */
  readonly routerId: string;
  view(): readonly VipView[];
  /** Something that `unhealthy` tells of has changed. */
  wake(): void;
  /** Leaves every address as it is to another process, which goes on under the same `routerId`. */
  leave(): Promise<void>;
  /** Gives every address up in order. */
  close(): Promise<void>;
}

/**
 * Begins to hold, or to be ready for, every virtual address of the router's file.
 * @throws Fault CAPABILITY_MISSING, TOOL_MISSING
 */
export function startVips(options: VipsOptions): Vips {
  const { settings, feed, dcs, clock, timers, random } = options;
  const routerId = options.inherited ?? random.uuid();
  if (settings.vips.length === 0) return noVips(routerId);
  requireVips(settings);
  const log = (
    level: "info" | "warn" | "error",
    event: string,
    fields: Readonly<Record<string, unknown>>,
  ): void => options.log(level, event, fields);
  const tool = hostTools(timers);
  const wake = (): void => {
    for (const { keeper } of keepers) keeper.wake();
  };
  const { cluster, namespace, router } = settings;
  const guard = new VipGuardClient({
    command: options.guardCommand,
    order: { kind: "open", cluster, namespace, dcs: settings.dcs, routerId, vips: settings.vips },
    clock,
    timers,
    log,
    onReady: wake,
  });
  const keepers = settings.vips.map((vip) => {
    const book = new VipBook(vip.name, vip.address, router, clock);
    const own = hostAddress(vip, {
      tool,
      clock,
      timers,
      log: (event, fields) => log("warn", event, fields),
    });
    const keeper = new VipKeeper({
      settings: vip,
      router,
      routerId,
      dcs,
      book,
      address: guard.address(vip.name, own),
      unfit: () => {
        if (!guard.ready) return "the guard of the addresses is starting";
        return (
          options.unhealthy() ?? (vip.bind === "leader" ? notOnLeader(settings, vip, feed.current()) : null)
        );
      },
      notifier: new VipNotifier(vip, {
        tool,
        router,
        cluster,
        log: (event, fields) => log("warn", event, fields),
      }),
      clock,
      timers,
      log,
      inherited: options.inherited !== null,
    });
    return { book, keeper };
  });
  guard.open();
  const watch = dcs.watch((event) => {
    for (const { book, keeper } of keepers) if (book.hear(event)) keeper.wake();
  });
  const unsubscribe = feed.subscribe((now, before) => {
    if (now.primary?.token !== before.primary?.token || now.primary?.node !== before.primary?.node) wake();
  });
  wake();
  return {
    routerId,
    view: () => keepers.map(({ keeper }) => keeper.view()),
    wake,
    async leave() {
      unsubscribe();
      await Promise.all(keepers.map(({ keeper }) => keeper.leave()));
      watch.close();
      // Told to end in order, it takes nothing away. Its end is not waited for: meanwhile nobody would renew the locks.
      void guard.close();
    },
    async close() {
      unsubscribe();
      await Promise.all(keepers.map(({ keeper }) => keeper.close()));
      watch.close();
      await guard.close();
    },
  };
}

/** The virtual addresses of a router that holds none, or not yet. */
export function noVips(routerId = ""): Vips {
  const nothing = (): Promise<void> => Promise.resolve();
  return { routerId, view: () => [], wake: () => undefined, leave: nothing, close: nothing };
}

/** @throws Fault CAPABILITY_MISSING, TOOL_MISSING: this host cannot carry an address of the file */
export function requireVips({ vips }: RouterSettings): void {
  for (const vip of vips) requireVipHost(vip);
}

function requireVipHost(vip: VipSettings): void {
  if (vip.commands !== null) return;
  const ipv6 = vip.address.includes(":");
  requireHost({
    what: `The virtual address ${vip.address}`,
    capabilities: ["CAP_NET_ADMIN", "CAP_NET_RAW"],
    tools: ["ip", "ss", ipv6 ? "ndisc6" : "arping"],
  });
}

/** Why an address that follows the leader may not be here; null = the primary is on this host. */
function notOnLeader(settings: RouterSettings, vip: VipSettings, { primary }: Topology): string | null {
  if (primary === null) return "no primary is known";
  const here = vip.node === null ? isThisHost(settings.address, primary.host) : vip.node === primary.node;
  return here ? null : `the primary is on ${primary.node}`;
}

function isThisHost(own: string, host: string): boolean {
  if (host === own) return true;
  return Object.values(networkInterfaces()).some((each) => each?.some(({ address }) => address === host));
}
