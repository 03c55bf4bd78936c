import type { Engine } from "./engine.ts";
import type { Rng } from "./rng.ts";

/** How long a lost message is sent again before its connection counts as broken, in milliseconds. */
const giveUpMs = 15_000;
const firstRetryMs = 200;

interface LinkState {
  /** How many faults block this direction now. */
  blocked: number;
  blockedSince: number;
  loss: number;
  slowdown: number;
  /** What every message takes longer. */
  heldMs: number;
  readonly baseMs: number;
}

/**
 * The links between all places (hosts, the store, the clients), each direction for itself. A message that is lost is sent
 * again, as TCP does, so that it may arrive late, long after the sender stopped waiting.
 */
export class Network {
  readonly #engine: Engine;
  readonly #rng: Rng;
  readonly #baseMs: number;
  readonly #links = new Map<string, Map<string, LinkState>>();

  constructor(engine: Engine, rng: Rng, baseMs: number) {
    this.#engine = engine;
    this.#rng = rng;
    this.#baseMs = baseMs;
  }

  #link(from: string, to: string): LinkState {
    let there = this.#links.get(from);
    if (there === undefined) this.#links.set(from, (there = new Map<string, LinkState>()));
    let link = there.get(to);
    if (link === undefined) {
      const baseMs = from === to ? 0.02 : this.#baseMs * this.#rng.between(0.5, 2);
      link = { blocked: 0, blockedSince: 0, loss: 0, slowdown: 1, heldMs: 0, baseMs };
      there.set(to, link);
    }
    return link;
  }

  block(from: string, to: string): void {
    const link = this.#link(from, to);
    if (link.blocked === 0) link.blockedSince = this.#engine.now;
    link.blocked += 1;
  }
  unblock(from: string, to: string): void {
    const link = this.#link(from, to);
    link.blocked = Math.max(0, link.blocked - 1);
  }
  /** Makes a direction lossy (0 to 1) and slow (a factor). */
  disturb(from: string, to: string, loss: number, slowdown: number): void {
    Object.assign(this.#link(from, to), { loss, slowdown });
  }

  /** Makes every message of a direction late by so much. */
  hold(from: string, to: string, ms: number): void {
    this.#link(from, to).heldMs = ms;
  }

  isOpen(from: string, to: string): boolean {
    return this.#link(from, to).blocked === 0;
  }
  /** For how long nothing has gone this way; 0 = it is open. */
  blockedMs(from: string, to: string): number {
    const link = this.#link(from, to);
    return link.blocked === 0 ? 0 : this.#engine.now - link.blockedSince;
  }

  /** Carries a message; `lost` is called when the connection is given up. */
  send(from: string, to: string, arrive: () => void, lost?: () => void): void {
    this.#attempt(this.#link(from, to), arrive, lost, firstRetryMs, this.#engine.now);
  }

  #attempt(
    link: LinkState,
    arrive: () => void,
    lost: (() => void) | undefined,
    retryMs: number,
    since: number,
  ): void {
    if (link.blocked === 0 && (link.loss === 0 || !this.#rng.chance(link.loss))) {
      const tail = this.#rng.chance(0.01) ? this.#rng.magnitude(1, 20) : 1;
      const ms = link.baseMs * link.slowdown * this.#rng.between(0.8, 1.5) * tail;
      this.#engine.after(ms + link.heldMs, arrive);
    } else if (this.#engine.now - since > giveUpMs) lost?.();
    else
      this.#engine.after(retryMs, () =>
        this.#attempt(link, arrive, lost, Math.min(retryMs * 2, 4000), since),
      );
  }

  /** A connection: messages of one direction arrive in their order, or the connection breaks. */
  connect(from: string, to: string, broken: () => void): Channel {
    return new Channel(this, this.#engine, from, to, broken);
  }
}

/** One direction of a connection. */
export class Channel {
  readonly #network: Network;
  readonly #engine: Engine;
  readonly #from: string;
  readonly #to: string;
  readonly #broken: () => void;
  #sent = 0;
  #arrived = 0;
  #early = new Map<number, () => void>();
  #closed = false;

  constructor(network: Network, engine: Engine, from: string, to: string, broken: () => void) {
    this.#network = network;
    this.#engine = engine;
    this.#from = from;
    this.#to = to;
    this.#broken = broken;
  }

  send(arrive: () => void): void {
    if (this.#closed) return;
    const number = (this.#sent += 1);
    this.#network.send(
      this.#from,
      this.#to,
      () => this.#receive(number, arrive),
      () => {
        if (this.#closed) return;
        this.#closed = true;
        this.#broken();
      },
    );
  }

  close(): void {
    this.#closed = true;
    this.#early.clear();
  }

  #receive(number: number, arrive: () => void): void {
    if (this.#closed) return;
    if (number !== this.#arrived + 1) {
      this.#early.set(number, arrive);
      return;
    }
    this.#arrived = number;
    arrive();
    const next = this.#early.get(number + 1);
    if (next === undefined) return;
    this.#early.delete(number + 1);
    this.#engine.after(0, () => this.#receive(number + 1, next));
  }
}
