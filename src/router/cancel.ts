import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import type { Clock } from "../system/clock.ts";

/** What a client shows to have its statement cancelled. */
export interface CancelKey {
  /** 11 bits tell the router, 20 bits the session; never negative as a 32-bit number. */
  readonly pid: number;
  readonly secret: Buffer;
}

/** A key as it is kept: a text of one character per byte, because a buffer this small takes many times its length. */
export interface MintedKey {
  readonly pid: number;
  readonly secret: string;
}

const sessionBits = 20;
const sessions = 1 << sessionBits;
const routers = 1 << 11;
/** Protocol 3.0 has room for 4 bytes; since 3.2 a client takes more. */
const shortSecret = 4;
const longSecret = 32;
const randomPiece = 2_048;

/** Requests one address may make at once, and how many more each second. */
const burst = 100;
const perSecond = 50;
/** Addresses that are counted; beyond, the longest known is forgotten. */
const addresses = 10_000;

/** The number of a router in its clients' keys. Two names can have the same: then a request is simply not known here. */
export function routerNumber(name: string): number {
  return createHash("sha256").update(name).digest().readUInt16BE(0) % routers;
}

/** A client of this router by its number, the number of another router, or nobody known here. */
export type Meant = { readonly client: number } | { readonly router: number } | { readonly nobody: true };

/** The keys of all clients of this router. */
export class CancelKeys {
  readonly #router: number;
  readonly #clock: Clock;
  readonly #keys = new Map<number, { readonly secret: string; readonly client: number }>();
  readonly #asked = new Map<string, { tokens: number; atMs: number }>();
  #random = Buffer.alloc(0);
  #next: number;

  /** @param router the router's name */
  constructor(router: string, clock: Clock) {
    this.#router = routerNumber(router);
    this.#clock = clock;
    // Not from 0 again after a restart: a late request for a session of before finds nobody.
    this.#next = randomBytes(4).readUInt32BE(0) % sessions;
  }

  /** @param client the number of the client; @param minor the protocol version agreed with it */
  mint(client: number, minor: number): MintedKey {
    while (this.#keys.has(this.#next)) this.#next = (this.#next + 1) % sessions;
    const session = this.#next;
    this.#next = (this.#next + 1) % sessions;
    const secret = this.#secret(minor >= 2 ? longSecret : shortSecret);
    this.#keys.set(session, { secret, client });
    return { pid: this.#router * sessions + session, secret };
  }

  #secret(length: number): string {
    if (this.#random.length < length) this.#random = randomBytes(randomPiece);
    const secret = this.#random.toString("latin1", 0, length);
    this.#random = this.#random.subarray(length);
    return secret;
  }

  /** The client is gone. */
  forget(key: Pick<MintedKey, "pid">): void {
    this.#keys.delete(key.pid % sessions);
  }

  /** Who is meant by a request; null = the address asks too often. nobody: perhaps a client of a process before this one. */
  find(request: CancelKey, address: string): Meant | null {
    if (!this.#mayAsk(address)) return null;
    const router = Math.floor(request.pid / sessions);
    if (router !== this.#router) return { router };
    const entry = this.#keys.get(request.pid % sessions);
    // The lengths are no secret; the bytes are compared in a time that does not tell how many of them fit.
    if (entry === undefined || entry.secret.length !== request.secret.length) return { nobody: true };
    return timingSafeEqual(Buffer.from(entry.secret, "latin1"), request.secret)
      ? { client: entry.client }
      : { nobody: true };
  }

  /** A client that guesses keys, or floods the servers with requests, is not listened to. */
  #mayAsk(address: string): boolean {
    const nowMs = this.#clock.now();
    const known = this.#asked.get(address);
    const tokens =
      known === undefined ? burst : Math.min(burst, known.tokens + ((nowMs - known.atMs) / 1000) * perSecond);
    this.#asked.delete(address);
    this.#asked.set(address, { tokens: Math.max(0, tokens - 1), atMs: nowMs });
    if (this.#asked.size > addresses) {
      const [oldest] = this.#asked.keys();
      if (oldest !== undefined) this.#asked.delete(oldest);
    }
    return tokens >= 1;
  }
}
