import type { SecureContextOptions } from "node:tls";
import { Channel, type ChannelTime } from "./channel.ts";
import type { CallFailure } from "./failure.ts";

/** The shortest and the longest time one attempt may take, in milliseconds. */
const attemptMs = { least: 300, most: 2000 };

/** What the members are and how to reach them. */
export interface EndpointsParts {
  /** Complete URLs; never empty. */
  readonly urls: readonly string[];
  /** Read anew for every connection, so that renewed certificates are used. */
  readonly tls: () => SecureContextOptions | undefined;
  readonly time: ChannelTime;
  /** Told when another member is used from now on. */
  readonly onMove: (from: string, to: string, reason: string) => void;
}

/**
 * The members of the store: one is in use until it fails, then the next one, at once. Requests and watches share its
 * connection, so that whoever notices trouble first moves everybody.
 */
export class Endpoints {
  readonly #parts: EndpointsParts;
  readonly #open = new Set<Channel>();
  #index = 0;
  #current: Channel | undefined;
  #usualMs = 0;

  constructor(parts: EndpointsParts) {
    this.#parts = parts;
  }

  get count(): number {
    return this.#parts.urls.length;
  }

  /** The connection in use, made now if there is none. */
  channel(): Channel {
    if (this.#current?.usable === false) this.#advance(this.#current.endpoint, "the connection ended");
    this.#current ??= this.#connect();
    return this.#current;
  }

  /** This connection is in trouble: everybody goes to the next member. Its calls under way may still finish. */
  leave(channel: Channel, failure: CallFailure): void {
    channel.retire(failure);
    if (channel === this.#current) this.#advance(channel.endpoint, failure.reason);
  }

  /**
   * How long one attempt may take. Grows with a store that is slow as a whole, so that it is not taken for dead: four
   * times the usual answer. With one endpoint there is no other to go to, only the chance that a new connection helps.
   */
  attemptMs(leftMs: number): number {
    const usual = Math.min(attemptMs.most, Math.max(attemptMs.least, this.#usualMs * 4));
    return Math.min(leftMs, this.count === 1 ? Math.max(usual, leftMs / 2) : usual);
  }

  /** An attempt took this long (or was given up after it). */
  observe(elapsedMs: number): void {
    this.#usualMs += (elapsedMs - this.#usualMs) * 0.2;
  }

  /** Cuts every connection. */
  async close(): Promise<void> {
    const open = [...this.#open];
    for (const channel of open) channel.destroy();
    await Promise.all(open.map((channel) => channel.closed));
  }

  #connect(): Channel {
    const channel = new Channel({ endpoint: this.#url(), tls: this.#parts.tls() }, this.#parts.time);
    this.#open.add(channel);
    void channel.closed.then(() => this.#open.delete(channel));
    return channel;
  }

  #advance(from: string, reason: string): void {
    this.#index += 1;
    this.#current = undefined;
    this.#parts.onMove(from, this.#url(), reason);
  }

  #url(): string {
    return this.#parts.urls[this.#index % this.count] ?? "";
  }
}
