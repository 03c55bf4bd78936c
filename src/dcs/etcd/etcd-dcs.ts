import type { Clock } from "../../system/clock.ts";
import type { Timers } from "../../system/timers.ts";
import { Fault } from "../../values/fault.ts";
import type { Secret } from "../../values/secret.ts";
import {
  happensAtMostOnce,
  type Dcs,
  type DcsEntry,
  type DcsSnapshot,
  type DcsTransaction,
  type DcsTransactionResult,
  type DcsWatch,
  type DcsWatchEvent,
} from "../dcs.ts";
import { uncertainFault } from "./attempts.ts";
import { EtcdClient } from "./client.ts";
import { Endpoints } from "./endpoints.ts";
import { Login } from "./login.ts";
import { decodeRange, decodeTransaction, encodeRange, encodeTransaction, methods } from "./messages.ts";
import { endpointUrls, tlsReader, type EtcdTlsFiles } from "./options.ts";
import { WireFormatError } from "./protobuf.ts";
import { EtcdWatch } from "./watch.ts";

/** Where things worth knowing are written; pino fits. */
export interface EtcdLogger {
  info(fields: Record<string, unknown>, text: string): void;
}

/** How to reach etcd (3.4 or later). */
export interface EtcdDcsOptions {
  /** `http://host:port`, `https://host:port` or `host:port`; tried in this order. */
  readonly endpoints: readonly string[];
  /** The cluster's place, with a slash at the end: `/service/shop/`. */
  readonly prefix: string;
  readonly tls?: EtcdTlsFiles | undefined;
  readonly username?: string | undefined;
  readonly password?: Secret | undefined;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly logger?: EtcdLogger | undefined;
}

/**
 * The DCS adapter for etcd's v3 API. Connects when it is first used.
 * @throws Fault CONFIG_INVALID, CONFIG_UNREADABLE
 */
export function createEtcdDcs(options: EtcdDcsOptions): Dcs {
  return new EtcdDcs(options);
}

class EtcdDcs implements Dcs {
  readonly description: string;
  readonly #options: EtcdDcsOptions;
  readonly #client: EtcdClient;
  readonly #watches = new Set<EtcdWatch>();
  readonly #range: Buffer;

  constructor(options: EtcdDcsOptions) {
    const { clock, timers, prefix, username, password, logger } = options;
    if (!/.\/$/.test(prefix))
      throw new Fault("CONFIG_INVALID", "The prefix of the keys must end with a slash", { detail: prefix });
    const urls = endpointUrls(options.endpoints, options.tls !== undefined);
    const endpoints = new Endpoints({
      urls,
      tls: tlsReader(options.tls),
      time: { clock, timers },
      onMove: (from, to, reason) =>
        logger?.info({ event: "dcs.endpoint_changed", from, to, reason }, "Using another etcd endpoint"),
    });
    const credentials = username === undefined || password === undefined ? undefined : { username, password };
    this.#options = options;
    this.#client = new EtcdClient({ endpoints, login: new Login(credentials, timers), clock, timers });
    this.#range = encodeRange(prefix);
    this.description = `etcd ${urls.join(", ")}`;
  }

  async read(timeoutMs: number): Promise<DcsSnapshot> {
    const seen = new Map([...this.#watches].map((watch) => [watch, watch.revision]));
    const { snapshot } = await this.#read(timeoutMs);
    // A linearizable read is never older than what was reported before it, unless the store was put back to a backup.
    for (const [watch, revision] of seen) if (snapshot.revision < revision) watch.restart();
    return snapshot;
  }

  async transact(transaction: DcsTransaction, timeoutMs: number): Promise<DcsTransactionResult> {
    const reply = await this.#client.request({
      method: methods.transact,
      message: encodeTransaction(this.#options.prefix, transaction),
      timeoutMs,
      kind: happensAtMostOnce(transaction) ? "guarded write" : "write",
    });
    const { header, succeeded } = decoded(decodeTransaction, reply.message, "DCS_UNCERTAIN");
    if (succeeded) return { outcome: "committed", revision: header.revision };
    if (reply.maybeDoneBefore)
      throw uncertainFault("The first attempt got no answer, and a check of the second one failed");
    return { outcome: "conflict" };
  }

  watch(handler: (event: DcsWatchEvent) => void): DcsWatch {
    const { prefix, clock, timers } = this.#options;
    const watch: EtcdWatch = new EtcdWatch({
      client: this.#client,
      prefix,
      clock,
      timers,
      handler,
      read: (timeoutMs) => this.#read(timeoutMs),
      onClose: () => void this.#watches.delete(watch),
    });
    this.#watches.add(watch);
    return watch;
  }

  async close(): Promise<void> {
    for (const watch of this.#watches) watch.close();
    await this.#client.close();
  }

  async #read(timeoutMs: number): Promise<{ snapshot: DcsSnapshot; clusterId: number }> {
    const reply = await this.#client.request({
      method: methods.range,
      message: this.#range,
      timeoutMs,
      kind: "read",
    });
    const { header, entries } = decoded(decodeRange, reply.message, "DCS_UNREACHABLE");
    const relative = new Map<string, DcsEntry>();
    for (const [key, entry] of entries) relative.set(key.slice(this.#options.prefix.length), entry);
    return { snapshot: { revision: header.revision, entries: relative }, clusterId: header.clusterId };
  }
}

function decoded<T>(
  decode: (message: Buffer) => T,
  message: Buffer,
  code: "DCS_UNREACHABLE" | "DCS_UNCERTAIN",
): T {
  try {
    return decode(message);
  } catch (thrown) {
    if (!(thrown instanceof WireFormatError)) throw thrown;
    throw new Fault(code, "The answer is not one of etcd's", { detail: thrown.message, cause: thrown });
  }
}
