import type { GuardPort } from "../../src/agent/guard-port.ts";
import type { GuardView } from "../../src/cluster/view.ts";
import type { Timer } from "../../src/system/timers.ts";
import type { Instant } from "../../src/values/time.ts";
import type { SimProcess } from "./engine.ts";
import type { Postgres } from "./postgres/postgres.ts";

const suspendMs = 300;
/** What the agents are told that a stop took; the model's takes up to 40 ms. */
export const stopMs = 40;

/** The guard's process on one host: it outlives agents, and ends PostgreSQL when the deadline passes (P4). */
export class GuardProcess {
  readonly process: SimProcess;
  readonly #postgres: Postgres;
  #deadline: Instant | null = null;
  #bootOffset = 0;
  #killing = false;
  #timer: Timer | null = null;

  constructor(postgres: Postgres) {
    this.#postgres = postgres;
    this.process = postgres.host.spawn("guard");
  }

  arm(deadline: Instant | null, bootOffset: number): void {
    this.#deadline = deadline;
    this.#bootOffset = bootOffset;
    this.#timer?.cancel();
    this.#watch();
  }

  #watch(): void {
    const deadline = this.#deadline;
    if (deadline === null) return;
    const { clock } = this.#postgres.host;
    const left = deadline - clock.now();
    if (left <= 0 || clock.bootMs() - clock.now() - this.#bootOffset > suspendMs) this.#strike();
    else
      this.#timer = this.#postgres.host.timers(this.process).after(Math.min(left, 200), () => this.#watch());
  }

  #strike(): void {
    const { rng, observer } = this.#postgres.net;
    this.#deadline = null;
    if (this.#killing || this.#postgres.dead) return;
    this.#killing = true;
    observer.trace(this.#postgres.host.name, () => "guard: the deadline passed");
    this.process.after(rng.magnitude(1, 40), () => {
      this.#killing = false;
      this.#postgres.killAll();
    });
  }
}

/** Keeps one guard running on a host and hands agents their end of it. */
export class GuardKeeper {
  readonly #postgres: Postgres;
  guard: GuardProcess | null = null;
  /** The second guard, in the supervisor, which nobody ends as long as the host is up. */
  supervisor: GuardProcess | null = null;

  constructor(postgres: Postgres) {
    this.#postgres = postgres;
  }

  /** The port for an agent that starts now. */
  port(agent: SimProcess): GuardPort {
    return new AgentEnd(this, this.#postgres, agent);
  }

  /** The running guard; started when none is there, as the supervisor's is. */
  start(): GuardProcess {
    if (this.supervisor?.process.alive !== true) this.supervisor = new GuardProcess(this.#postgres);
    if (this.guard?.process.alive === true) return this.guard;
    const made = new GuardProcess(this.#postgres);
    this.guard = made;
    made.process.onDeath(() => {
      if (this.guard === made) this.guard = null;
    });
    return made;
  }
}

/** One agent's end of the guard, with the same limits as the real one (src/agent/guard-client.ts). */
class AgentEnd implements GuardPort {
  readonly #keeper: GuardKeeper;
  readonly #postgres: Postgres;
  readonly #agent: SimProcess;
  #connected: GuardProcess | null = null;
  #order: { readonly deadline: Instant | null; readonly bootOffset: number } | null = null;
  /** The deadline that the guard has acknowledged. */
  #reported: Instant | null = null;
  #askedAt: Instant | null = null;
  #missingSince: Instant | null = null;
  #wasAlive = false;
  #onChange: () => void = () => undefined;

  constructor(keeper: GuardKeeper, postgres: Postgres, agent: SimProcess) {
    this.#keeper = keeper;
    this.#postgres = postgres;
    this.#agent = agent;
    this.#missingSince = this.#now();
  }

  get pid(): number {
    return 1;
  }

  open(onChange: () => void): void {
    this.#onChange = onChange;
    this.#connect();
  }

  arm(deadline: Instant, bootOffset: number): void {
    this.#give({ deadline, bootOffset });
  }

  disarm(): void {
    this.#give({ deadline: null, bootOffset: 0 });
  }

  watch(): void {}

  view(): GuardView {
    const alive = this.#isAlive();
    this.#wasAlive = alive;
    this.#missingSince = alive ? null : (this.#missingSince ?? this.#now());
    const forMs = this.#missingSince === null ? 0 : this.#now() - this.#missingSince;
    return { alive, forMs, stopMs, refusal: null };
  }

  isArmed(): boolean {
    return this.#isAlive() && this.#reported !== null && this.#reported > this.#now();
  }

  close(): void {}

  #now(): Instant {
    return this.#postgres.host.clock.now();
  }

  #isAlive(): boolean {
    return this.#connected !== null && (this.#askedAt === null || this.#now() - this.#askedAt < 500);
  }

  #connect(): void {
    const guard = this.#keeper.start();
    guard.process.onDeath(() => {
      if (this.#connected !== guard) return;
      this.#connected = null;
      this.#reported = null;
      this.#askedAt = null;
      this.#agent.after(0, () => this.#onChange());
      this.#agent.after(this.#postgres.net.rng.between(50, 300), () => this.#connect());
    });
    this.#connected = guard;
    this.#tell();
    this.#look(guard);
  }

  #give(order: { readonly deadline: Instant | null; readonly bootOffset: number }): void {
    this.#order = order;
    this.#tell();
    const { supervisor } = this.#keeper;
    this.#agent.after(this.#postgres.net.rng.between(0.05, 0.5), () =>
      supervisor?.process.deliver(() => {
        supervisor.arm(order.deadline, order.bootOffset);
      }),
    );
  }

  /** Sends the order again; `arm` false: only an answer is wanted. */
  #tell(arm = true): void {
    const guard = this.#connected;
    const order = this.#order;
    if (guard === null) return;
    this.#askedAt ??= this.#now();
    const travel = (): number => this.#postgres.net.rng.between(0.05, 0.5);
    this.#agent.after(travel(), () =>
      guard.process.deliver(() => {
        if (arm && order !== null) guard.arm(order.deadline, order.bootOffset);
        guard.process.after(travel(), () =>
          this.#agent.deliver(() => {
            if (this.#connected !== guard || this.#order !== order) return;
            const before = this.#wasAlive && this.isArmed();
            this.#reported = order?.deadline ?? null;
            this.#askedAt = null;
            if (!this.#wasAlive || this.isArmed() !== before) this.#onChange();
          }),
        );
      }),
    );
  }

  #look(guard: GuardProcess): void {
    this.#agent.after(500, () => {
      if (this.#connected !== guard) return;
      if (this.#askedAt === null) this.#tell(false);
      else if (this.#now() - this.#askedAt > 1500)
        this.#agent.after(100, () => {
          if (this.#connected === guard && this.#askedAt !== null) guard.process.kill();
        });
      this.#look(guard);
    });
  }
}
