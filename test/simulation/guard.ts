import type { GuardPort } from "../../src/agent/assemble.ts";
import type { Timer } from "../../src/system/timers.ts";
import type { Instant } from "../../src/values/time.ts";
import type { SimProcess } from "./engine.ts";
import type { Postgres } from "./postgres/postgres.ts";

const suspendMs = 300;

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
  #supervisor: GuardProcess | null = null;

  constructor(postgres: Postgres) {
    this.#postgres = postgres;
  }

  /** The port for an agent that starts now. */
  port(agent: SimProcess): GuardPort {
    let order: { deadline: Instant | null; bootOffset: number } | null = null;
    const { rng } = this.#postgres.net;
    const tell = (): void => {
      const now = order;
      if (now === null) return;
      for (const guard of [this.guard, this.#supervisor])
        agent.after(rng.between(0.05, 0.5), () =>
          guard?.process.deliver(() => guard.arm(now.deadline, now.bootOffset)),
        );
    };
    const open = (): void => {
      if (this.#supervisor?.process.alive !== true) this.#supervisor = new GuardProcess(this.#postgres);
      if (this.guard === null || !this.guard.process.alive) {
        const made = new GuardProcess(this.#postgres);
        this.guard = made;
        made.process.onDeath(() => {
          if (this.guard === made) this.guard = null;
          agent.after(rng.between(50, 300), open);
        });
      }
      tell();
    };
    return {
      get pid() {
        return 1;
      },
      open,
      arm: (deadline, bootOffset) => {
        order = { deadline, bootOffset };
        tell();
      },
      disarm: () => {
        order = { deadline: null, bootOffset: 0 };
        tell();
      },
      close: () => undefined,
    };
  }
}
