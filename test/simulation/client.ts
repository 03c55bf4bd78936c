import type { Engine } from "./engine.ts";
import type { Network } from "./network.ts";
import type { Backend, SynchronousCommit } from "./postgres/backend.ts";
import type { Postgres } from "./postgres/postgres.ts";
import type { Commit } from "./postgres/wal.ts";
import type { Rng } from "./rng.ts";

/** How one client works; drawn per seed. */
export interface ClientTraits {
  readonly mode: SynchronousCommit;
  readonly thinkMs: number;
  readonly bytes: readonly [number, number];
  /** The share of transactions that compute for up to `longMs` before they commit. */
  readonly long: number;
  readonly longMs: number;
  /** After this it gives up: cancels the wait, or drops the connection. */
  readonly patienceMs: number;
  readonly cancels: number;
}

/** What is counted of the clients. */
export interface ClientCounts {
  commits: number;
  acknowledged: number;
  lastAcknowledged: number;
}

/** A client with one session: it looks for the primary, writes, and remembers what it was told. */
export class Client {
  readonly #place: string;
  readonly #engine: Engine;
  readonly #network: Network;
  readonly #rng: Rng;
  readonly #servers: readonly Postgres[];
  readonly #traits: ClientTraits;
  readonly #counts: ClientCounts;
  #next: number;
  #backend: Backend | null = null;
  #turn = 0;

  constructor(
    place: string,
    world: { readonly engine: Engine; readonly network: Network; readonly rng: Rng },
    servers: readonly Postgres[],
    traits: ClientTraits,
    counts: ClientCounts,
  ) {
    this.#place = place;
    this.#engine = world.engine;
    this.#network = world.network;
    this.#rng = world.rng;
    this.#servers = servers;
    this.#traits = traits;
    this.#counts = counts;
    this.#next = world.rng.below(servers.length);
  }

  start(): void {
    this.#later(this.#rng.between(0, 500), () => this.#connect());
  }

  /** Runs `run` unless something else has gone on meanwhile. */
  #later(ms: number, run: () => void): void {
    const turn = (this.#turn += 1);
    this.#engine.after(ms, () => {
      if (turn === this.#turn) run();
    });
  }

  #connect(): void {
    const target = this.#servers[(this.#next += 1) % this.#servers.length]!;
    const { name } = target.host;
    const turn = (this.#turn += 1);
    const answer = (backend: Backend | null): void =>
      this.#network.send(name, this.#place, () => {
        if (turn !== this.#turn) {
          backend?.process.deliver(() => backend.end());
          return;
        }
        this.#backend = backend;
        if (backend === null) this.#later(this.#rng.between(5, 40), () => this.#connect());
        else this.#write();
      });
    this.#network.send(this.#place, name, () => {
      const { server } = target;
      if (!target.host.up) return;
      if (server === null) {
        answer(null);
        return;
      }
      server.process.deliver(() =>
        answer(server.role === "primary" ? server.login(this.#traits.mode) : null),
      );
    });
    this.#engine.after(1500, () => {
      if (turn === this.#turn) this.#connect(); // no answer
    });
  }

  #write(): void {
    const backend = this.#backend;
    if (backend === null) return;
    const { bytes, long, longMs, patienceMs } = this.#traits;
    const commit: Commit = { id: (this.#counts.commits += 1), index: -1 };
    const turn = (this.#turn += 1);
    const workMs = this.#rng.chance(long) ? this.#rng.magnitude(50, longMs) : this.#rng.between(0.1, 1);
    const size = this.#rng.magnitude(...bytes);
    const { name } = backend.server.postgres.host;
    this.#network.send(this.#place, name, () =>
      backend.process.deliver(() =>
        backend.execute(commit, size, workMs, (outcome) =>
          this.#network.send(name, this.#place, () => {
            if (turn !== this.#turn) return;
            if (outcome === "closed") {
              this.#backend = null;
              this.#later(this.#rng.between(1, 30), () => this.#connect());
              return;
            }
            if (outcome === "done") {
              this.#counts.acknowledged += 1;
              this.#counts.lastAcknowledged = this.#engine.now;
            }
            this.#later(this.#traits.thinkMs * this.#rng.between(0.3, 2), () => this.#write());
          }),
        ),
      ),
    );
    this.#engine.after(patienceMs + workMs, () => {
      if (turn === this.#turn) this.#giveUp(backend);
    });
  }

  #giveUp(backend: Backend): void {
    const { name } = backend.server.postgres.host;
    if (this.#rng.chance(this.#traits.cancels)) {
      this.#network.send(this.#place, name, () => backend.process.deliver(() => backend.cancelWait()));
      const turn = this.#turn;
      this.#engine.after(1000, () => {
        if (turn === this.#turn) this.#drop();
      });
    } else this.#drop();
  }

  /** The session is left: the server may notice much later. */
  #drop(): void {
    this.#backend = null;
    this.#connect();
  }
}
