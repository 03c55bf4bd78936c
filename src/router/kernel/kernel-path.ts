import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { networkInterfaces } from "node:os";
import type { AccessRule, ListenerSettings } from "../../config/router-config.ts";
import type { Clock } from "../../system/clock.ts";
import { deadline, type Timer, type Timers } from "../../system/timers.ts";
import { Fault, toFault } from "../../values/fault.ts";
import { elapsedMs } from "../../values/time.ts";
import { requireHost } from "../host/capabilities.ts";
import { hostTools, toolProblem, type RunTool } from "../host/tool.ts";
import type { PrimaryRoute, TopologyFeed } from "../topology.ts";
import { watchForFlush } from "./flush-watch.ts";
import { cutFlows } from "./flows.ts";
import { isLoopback, listenMatch, type ListenMatch } from "./match.ts";
import { removalText, rulesetText, tableName, type KernelTarget } from "./ruleset.ts";
import { Sysctls, sysctlWord, type SysctlName } from "./sysctls.ts";

export interface KernelPathOptions {
  readonly listener: ListenerSettings;
  /** The router's name. */
  readonly router: string;
  /** The access rules of now; only what their file's check leaves over for this path. */
  readonly access: () => readonly AccessRule[];
  readonly feed: TopologyFeed;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: (
    level: "info" | "warn" | "error",
    event: string,
    fields?: Readonly<Record<string, unknown>>,
  ) => void;
}

/** A listener of path `kernel` as the status and the console show it. */
export interface KernelPathView {
  readonly listener: string;
  readonly table: string;
  /** passing: new connections reach the primary. refusing: nobody is known to serve. fault: the rules could not be set. */
  readonly state: "passing" | "refusing" | "fault";
  /** Such as `10.0.0.2:5432`. */
  readonly target: string | null;
  readonly message: string | null;
  /** How often somebody else's change was repaired. */
  readonly repaired: number;
}

export interface KernelPath {
  view(): KernelPathView;
  /** Takes new access rules into use. */
  reload(): void;
  /** Leaves the rules to another process, which states the same. */
  leave(): Promise<void>;
  /** Removes the rules and puts the kernel's switches back. */
  close(): Promise<void>;
}

/** Everything is stated again this often: what somebody altered is whole again, and the elements live on. */
const refreshMs = 1000;
/** Elements live at most this long without a refresh, and never longer than this router's own knowledge (F6). */
const mostMs = 4000;
const nftLimitMs = 3000;
const lookupLimitMs = 2000;

/**
 * Passes the connections of one listener to the primary in the kernel.
 * @throws Fault CAPABILITY_MISSING, TOOL_MISSING, KERNEL_PATH_UNAVAILABLE: then `kernel.fallback` says what to do
 */
export async function startKernelPath(options: KernelPathOptions): Promise<KernelPath> {
  const { listener } = options;
  requireHost({
    what: `The listener ${listener.name} with path kernel`,
    capabilities: ["CAP_NET_ADMIN"],
    tools: ["nft", "conntrack", "ss"],
  });
  const addresses =
    isIP(listener.listen) !== 0 || listener.listen === "*"
      ? []
      : await resolve(listener.listen, options.timers);
  const path = new ListenerPath(options, listenMatch(listener.listen, addresses));
  await path.open();
  return path;
}

class ListenerPath implements KernelPath {
  readonly #options: KernelPathOptions;
  readonly #match: ListenMatch;
  readonly #table: string;
  readonly #tool: RunTool;
  readonly #sysctls = new Sysctls();
  readonly #said = new Set<string>();
  /** Where connections went last: what is left behind when the next primary is another. */
  #last: { readonly route: PrimaryRoute; readonly targets: readonly KernelTarget[] } | null = null;
  #target: string | null = null;
  #problem: string | null = null;
  #repaired = 0;
  #running: Promise<void> | null = null;
  #again = false;
  #timer: Timer | null = null;
  #closed = false;
  #stopWatch: () => void = () => undefined;
  #unsubscribe: () => void = () => undefined;

  constructor(options: KernelPathOptions, match: ListenMatch) {
    this.#options = options;
    this.#match = match;
    this.#table = tableName(options.router, options.listener.name);
    this.#tool = hostTools(options.timers);
  }

  async open(): Promise<void> {
    const { listener, feed, timers } = this.#options;
    await this.#apply();
    if (this.#problem !== null)
      throw new Fault("KERNEL_PATH_UNAVAILABLE", `The listener ${listener.name} cannot use path kernel.`, {
        detail: this.#problem,
        hint: "The kernel needs nftables with NAT (nf_tables, nft_chain_nat, nft_fib_inet, nf_conntrack); or set kernel.fallback: stream, or another path.",
      });
    this.#stopWatch = watchForFlush(this.#table, timers, () => {
      if (this.#closed) return;
      this.#repaired += 1;
      this.#options.log("warn", "kernel.flushed", { listener: listener.name, table: this.#table });
      this.#wake();
    });
    this.#unsubscribe = feed.subscribe((now, before) => {
      if (!sameRoute(now.primary, before.primary)) this.#wake();
    });
    this.#wake();
  }

  view(): KernelPathView {
    return {
      listener: this.#options.listener.name,
      table: this.#table,
      state: this.#problem !== null ? "fault" : this.#target === null ? "refusing" : "passing",
      target: this.#target,
      message: this.#problem,
      repaired: this.#repaired,
    };
  }

  reload(): void {
    this.#wake();
  }

  async leave(): Promise<void> {
    this.#closed = true;
    this.#unsubscribe();
    this.#stopWatch();
    this.#timer?.cancel();
    await this.#running;
  }

  async close(): Promise<void> {
    await this.leave();
    const result = await this.#nft(removalText(this.#table));
    if (result !== null)
      this.#options.log("warn", "kernel.not_removed", { table: this.#table, message: result });
    this.#sysctls.restore();
  }

  #wake(): void {
    if (this.#closed) return;
    if (this.#running !== null) {
      this.#again = true;
      return;
    }
    this.#timer?.cancel();
    this.#running = this.#apply()
      .catch((thrown: unknown) => this.#fail(toFault(thrown).message))
      .then(() => {
        this.#running = null;
        if (this.#closed) return;
        if (this.#again) {
          this.#again = false;
          this.#wake();
        } else this.#timer = this.#options.timers.after(refreshMs, () => this.#wake());
      });
  }

  async #apply(): Promise<void> {
    const { listener, feed, clock } = this.#options;
    const route = feed.current().primary;
    const targets = route === null ? [] : await this.#targets(route);
    const four = targets.find(({ address }) => !address.includes(":")) ?? null;
    const six = targets.find(({ address }) => address.includes(":")) ?? null;
    const forwards = {
      four: four === null || four.local || this.#allowed("forward4", "clients on other hosts"),
      six: six === null || six.local || this.#allowed("forward6", "clients on other hosts, over IPv6"),
    };
    const routesLoopback =
      four !== null &&
      !four.local &&
      this.#hasLoopback() &&
      this.#allowed("loopback", "clients at 127.0.0.1");
    const until = feed.primaryUntil?.() ?? null;
    const timeoutMs = until === null ? mostMs : Math.min(mostMs, elapsedMs(clock.now(), until));
    const problem = await this.#state({
      table: this.#table,
      match: this.#match,
      port: listener.port,
      four,
      six,
      timeoutMs,
      masquerade: listener.kernel.masquerade,
      forwards,
      routesLoopback,
      admission: this.#options.access().map(({ addresses, method }) => ({
        addresses,
        admits: method !== "reject",
      })),
    });
    if (problem !== null) {
      this.#fail(problem);
      return;
    }
    this.#problem = null;
    this.#target = route === null || targets.length === 0 ? null : `${route.host}:${route.port}`;
    if (route !== null) await this.#leave(route, targets);
  }

  /** One transaction; if a table of this name is in its way, it is replaced in one. @returns what went wrong */
  async #state(facts: Parameters<typeof rulesetText>[0]): Promise<string | null> {
    const text = rulesetText(facts);
    const problem = await this.#nft(text);
    if (problem === null || /permitted|not supported/i.test(problem)) return problem;
    return this.#nft(`${removalText(this.#table)}${text}`);
  }

  /** Cuts the connections to the primary before this one. The same server with a higher token keeps its sessions. */
  async #leave(route: PrimaryRoute, targets: readonly KernelTarget[]): Promise<void> {
    const last = this.#last;
    this.#last = { route, targets };
    if (last === null || sameServer(last.route, route)) return;
    const { listener, log } = this.#options;
    for (const target of last.targets)
      try {
        const flows = await cutFlows(this.#tool, listener.port, target, isOwnAddress);
        log("info", "kernel.cut", { listener: listener.name, node: last.route.node, connections: flows });
      } catch (thrown) {
        log("warn", "kernel.cut_failed", { listener: listener.name, message: toFault(thrown).message });
      }
  }

  async #targets({ host, port }: PrimaryRoute): Promise<KernelTarget[]> {
    const addresses = isIP(host) !== 0 ? [host] : await resolve(host, this.#options.timers);
    return addresses.map((address) => ({ address, port, local: isOwnAddress(address) }));
  }

  /** Whether a switch is on, or may be and was turned on; says once what it is missing for. */
  #allowed(name: SysctlName, whom: string): boolean {
    const { listener, log } = this.#options;
    if (this.#sysctls.isOn(name)) return true;
    if (listener.kernel.sysctls === "set" && this.#sysctls.turnOn(name)) return true;
    const word = sysctlWord(name);
    if (!this.#said.has(word))
      log("warn", "kernel.switch_off", {
        listener: listener.name,
        message: `${word} is off: ${whom} are refused. Set ${word} = 1, or kernel.sysctls: set.`,
      });
    this.#said.add(word);
    return false;
  }

  #hasLoopback(): boolean {
    return this.#match.four === "local" || this.#match.four.some((address) => isLoopback(address));
  }

  #fail(problem: string): void {
    if (this.#problem !== problem)
      this.#options.log("error", "kernel.failed", {
        listener: this.#options.listener.name,
        message: problem,
      });
    this.#problem = problem;
  }

  /** @returns what went wrong; null = done */
  async #nft(text: string): Promise<string | null> {
    const result = await this.#tool("nft", ["-f", "-"], { timeoutMs: nftLimitMs, input: text });
    return result.code === 0 ? null : toolProblem("nft", result);
  }
}

function sameRoute(one: PrimaryRoute | null, other: PrimaryRoute | null): boolean {
  if (one === null || other === null) return one === other;
  return sameServer(one, other) && one.token === other.token;
}

function sameServer(one: PrimaryRoute, other: PrimaryRoute): boolean {
  return one.node === other.node && one.host === other.host && one.port === other.port;
}

function isOwnAddress(address: string): boolean {
  if (isLoopback(address)) return true;
  return Object.values(networkInterfaces()).some((each) => each?.some((own) => own.address === address));
}

async function resolve(host: string, timers: Timers): Promise<string[]> {
  const limit = deadline(timers, lookupLimitMs);
  const late = new Promise<never>((_, reject) => {
    limit.signal.addEventListener("abort", () => reject(new Error(`${host} could not be resolved in time`)));
  });
  try {
    const found = await Promise.race([lookup(host, { all: true }), late]);
    // One of each family: connections of one client shall meet one server.
    const four = found.find(({ family }) => family === 4);
    const six = found.find(({ family }) => family === 6);
    return [four, six].flatMap((each) => (each === undefined ? [] : [each.address]));
  } finally {
    limit.clear();
  }
}
