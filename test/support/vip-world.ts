import type { VipSettings } from "../../src/config/router-config.ts";
import type { Dcs } from "../../src/dcs/dcs.ts";
import { createMemoryDcs, type MemoryDcs } from "../../src/dcs/memory/memory-dcs.ts";
import type { VipAddress } from "../../src/router/vip/address.ts";
import { VipBook } from "../../src/router/vip/book.ts";
import type { GuardAnswer } from "../../src/router/vip/guard-protocol.ts";
import { aliveEveryMs, VipGuard } from "../../src/router/vip/guard.ts";
import { VipKeeper } from "../../src/router/vip/keeper.ts";
import { lifetimeSeconds } from "../../src/router/vip/lifetime.ts";
import { VipNotifier, type VipOccasion } from "../../src/router/vip/notify.ts";
import type { Timers } from "../../src/system/timers.ts";
import { Fault } from "../../src/values/fault.ts";
import type { WallTime } from "../../src/values/time.ts";
import { ManualTime } from "./manual-time.ts";

/** Length of the lock. */
export const lockMs = 4000;
const stepMs = 25;

function settingsOf(fields: Partial<VipSettings> = {}): VipSettings {
  return {
    name: "vip",
    address: "10.0.0.100",
    prefixLength: 32,
    interface: "eth0",
    bind: "router",
    node: null,
    priority: 100,
    preempt: false,
    lockMs,
    lifetimeMs: 10_000,
    duplicateCheck: true,
    commands: null,
    notify: { gained: null, lost: null, fault: null },
    ...fields,
  };
}

/** What can stand still: a process. Its timers and what it awaits continue when it goes on. */
class Stall {
  #stalled: (() => void)[] | null = null;

  set(on: boolean): void {
    const waiting = this.#stalled ?? [];
    if (on) this.#stalled ??= [];
    else {
      this.#stalled = null;
      for (const go of waiting) go();
    }
  }
  pass(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#stalled === null) resolve();
      else this.#stalled.push(resolve);
    });
  }
  timers(timers: Timers): Timers {
    return {
      after: (ms, run) => timers.after(ms, () => void this.pass().then(run)),
      sleep: (ms, signal) => timers.sleep(ms, signal).then(() => this.pass()),
    };
  }
  dcs(dcs: Dcs): Dcs {
    const late = async <T>(work: Promise<T>): Promise<T> => {
      try {
        return await work;
      } finally {
        await this.pass();
      }
    };
    return {
      description: dcs.description,
      read: (ms) => late(dcs.read(ms)),
      transact: (transaction, ms) => late(dcs.transact(transaction, ms)),
      watch: (handler) => dcs.watch((event) => void this.pass().then(() => handler(event))),
      close: () => dcs.close(),
    };
  }
}

/** A host: the kernel that keeps the address for its lifetime, a router, and that router's guard. */
class Host {
  readonly told: VipOccasion[] = [];
  readonly router = new Stall();
  readonly guardStall = new Stall();
  link: "up" | "down" = "up";
  keeper: VipKeeper | null = null;
  readonly #time: ManualTime;
  readonly #dcs: ReturnType<MemoryDcs["connect"]>;
  readonly #guardDcs: ReturnType<MemoryDcs["connect"]>;
  readonly name: string;
  readonly #settings: VipSettings;
  readonly #draw: () => number;
  #guard: VipGuard | null = null;
  #gone = 0;
  #life = 0;
  /** null = the address is not there. */
  #until: number | null = null;

  constructor(time: ManualTime, store: MemoryDcs, name: string, settings: VipSettings, draw: () => number) {
    this.#time = time;
    this.#dcs = store.connect();
    this.#guardDcs = store.connect();
    this.name = name;
    this.#settings = settings;
    this.#draw = draw;
    this.start();
  }

  get hasAddress(): boolean {
    return this.#until !== null && this.#time.now() < this.#until;
  }

  setNetwork(network: "up" | "down"): void {
    this.#dcs.setNetwork(network);
    this.#guardDcs.setNetwork(network);
  }

  /** As measured on Linux: whole seconds, looked at once a second, with a quarter of slack. */
  #kernel(): VipAddress {
    return {
      inspect: () =>
        Promise.resolve({
          problem: this.link === "up" ? null : "the link of eth0 is down",
          present: this.hasAddress,
          permanent: false,
        }),
      takenBy: () => Promise.resolve(null),
      announce: () => () => undefined,
      put: (deadline) => {
        const seconds = lifetimeSeconds(this.#time.now(), deadline, this.#settings.lifetimeMs);
        if (seconds < 1) return Promise.resolve("late");
        this.#until = this.#time.now() + seconds * 1000 + this.#draw() * 1250;
        return Promise.resolve("placed");
      },
      remove: () => {
        this.#until = null;
        return Promise.resolve();
      },
    };
  }

  start(): void {
    this.#life += 1;
    const life = this.#life;
    const routerId = `${this.name}/${life}`;
    const kernel = this.#kernel();
    const waiting = new Map<number, (answer: Extract<GuardAnswer, { kind: "done" }>) => void>();
    const guard = new VipGuard({
      addresses: new Map([["vip", kernel]]),
      routerId,
      lockMs,
      dcs: this.guardStall.dcs(this.#guardDcs),
      isBusy: () => false,
      clock: this.#time,
      timers: this.guardStall.timers(this.#time),
      answer: (answer) => {
        if (answer.kind === "done") waiting.get(answer.id)?.(answer);
      },
      log: () => undefined,
    });
    this.#guard = guard;
    const timers = this.router.timers(this.#time);
    const alive = (): void => {
      timers.after(aliveEveryMs, () => {
        if (this.#life !== life || this.#gone === life) return;
        void this.guardStall.pass().then(() => guard.hear({ kind: "alive" }));
        alive();
      });
    };
    let id = 0;
    let epoch = 1;
    const ask = async (
      order: "put" | "remove",
      deadline: number,
    ): Promise<Extract<GuardAnswer, { kind: "done" }>> => {
      id += 1;
      const own = id;
      const answered = new Promise<Extract<GuardAnswer, { kind: "done" }>>((resolve) =>
        waiting.set(own, resolve),
      );
      await this.guardStall.pass();
      guard.hear(
        order === "put"
          ? { kind: "put", id: own, vip: "vip", epoch, deadline }
          : { kind: "remove", id: own, vip: "vip" },
      );
      const answer = await answered;
      await this.router.pass();
      return answer;
    };
    const address: VipAddress = {
      ...kernel,
      put: async (deadline) => {
        const answer = await ask("put", deadline);
        epoch = answer.epoch;
        if (answer.outcome === "failed" || answer.outcome === "removed")
          throw new Fault("VIP_FAILED", "failed");
        return answer.outcome;
      },
      remove: async () => {
        await ask("remove", 0);
      },
    };
    const book = new VipBook("vip", this.#settings.address, this.name, this.#time);
    const dcs = this.router.dcs(this.#dcs);
    const notifier = new VipNotifier(this.#settings, {
      tool: () => Promise.reject(new Error("there are no commands")),
      router: this.name,
      cluster: "c",
      log: () => undefined,
    });
    const keeper = new VipKeeper({
      settings: this.#settings,
      router: this.name,
      routerId,
      inherited: false,
      dcs,
      book,
      address,
      unfit: () => null,
      notifier: Object.assign(notifier, { tell: (occasion: VipOccasion) => void this.told.push(occasion) }),
      clock: this.#time,
      timers,
      log: () => undefined,
    });
    this.keeper = keeper;
    dcs.watch((event) => {
      if (this.#gone !== life && book.hear(event)) keeper.wake();
    });
    guard.open();
    alive();
    keeper.wake();
  }

  /** SIGKILL for the router: nothing of it goes on, and its guard sees the pipe close. */
  kill(): void {
    this.#gone = this.#life;
    this.router.set(true);
    const guard = this.#guard;
    void this.guardStall.pass().then(() => guard?.orphaned());
  }

  /** A router anew, where one was killed. */
  restart(): void {
    if (this.#gone !== this.#life) return;
    Object.assign(this, { router: new Stall() });
    this.start();
  }
}

/** What is under way goes on as far as it can without time: the store and the kernel here answer in microtasks. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 100; turn += 1) await Promise.resolve();
}

/** Some hosts, one store, and a clock that is moved by hand. */
export class World {
  readonly time = new ManualTime("2026-11-21T00:00:00.000Z" as WallTime);
  readonly store = createMemoryDcs();
  readonly hosts: Host[] = [];

  add(name: string, fields: Partial<VipSettings> = {}, draw: () => number = () => 1): Host {
    const host = new Host(this.time, this.store, name, settingsOf(fields), draw);
    this.hosts.push(host);
    return host;
  }

  /** Lets time pass; at no moment two hosts have the address. @returns how long nobody had it */
  async pass(ms: number): Promise<number> {
    let nobodyMs = 0;
    for (let passed = 0; passed < ms; passed += stepMs) {
      this.time.pass(stepMs);
      await settle();
      const holders = this.hosts.filter((host) => host.hasAddress).length;
      if (holders > 1) throw new Error(`${holders} hosts have the address at ${this.time.now()} ms`);
      if (holders === 0) nobodyMs += stepMs;
    }
    return nobodyMs;
  }

  get holder(): Host | undefined {
    return this.hosts.find((host) => host.hasAddress);
  }
}
