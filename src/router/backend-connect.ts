import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import type { BackendTlsSettings } from "../config/router-config.ts";
import { encodeCancel, encodeSslRequest } from "../pgwire/startup.ts";
import type { Random } from "../system/random.ts";
import { deadline, type Timers } from "../system/timers.ts";
import { type Backend, BackendFailure, type Route } from "./backend.ts";
import { logIn } from "./backend-login.ts";
import { certificateHash } from "../pgwire/certificate-hash.ts";
import type { BackendCredentials } from "./client.ts";
import { connectSocket, type NetSocket } from "./net-socket.ts";

/** In whose name a connection is made. */
export interface BackendIdentity {
  readonly parameters: ReadonlyMap<string, string>;
  readonly credentials: BackendCredentials;
}

/** How long a login may take beyond the connection itself: PostgreSQL's own limit is a minute. */
const loginMs = 10_000;
/** How long a cancel request may take; PostgreSQL closes the connection when it has passed it on. */
const cancelMs = 5_000;
const answerYes = 0x53;
const answerNo = 0x4e;

/** Makes connections to PostgreSQL in the name of clients. */
export class BackendConnector {
  readonly #tls: BackendTlsSettings;
  readonly #authority: string | undefined;
  readonly #timers: Timers;
  readonly #random: Random;

  /** @throws {Error} the file of the authority cannot be read */
  constructor(tls: BackendTlsSettings, timers: Timers, random: Random) {
    this.#tls = tls;
    this.#authority = tls.caFile === null ? undefined : readFileSync(tls.caFile, "utf8");
    this.#timers = timers;
    this.#random = random;
  }

  /**
   * Connects and logs in.
   * @param connectMs limit of the connection, TLS included
   * @throws {BackendFailure}
   */
  async open(
    route: Route,
    identity: BackendIdentity,
    connectMs: number,
    signal: AbortSignal,
  ): Promise<Backend> {
    const { socket, endPoint } = await this.#connect(route, connectMs, signal);
    const limit = deadline(this.#timers, loginMs, signal);
    try {
      const nonce = this.#random.secret(18);
      return await logIn(socket, { route, ...identity, nonce, endPoint }, limit.signal);
    } finally {
      limit.clear();
    }
  }

  /** Asks PostgreSQL to cancel what `backend` runs. @returns when PostgreSQL has taken it, or could not be reached */
  async cancel(backend: Backend): Promise<void> {
    const limit = deadline(this.#timers, cancelMs);
    try {
      const { socket } = await this.#connect(backend.route, cancelMs, limit.signal);
      await new Promise<void>((resolve) => {
        socket.onBytes = () => undefined;
        socket.onEnd = () => socket.destroy();
        socket.onClose = () => resolve();
        limit.signal.addEventListener("abort", () => socket.destroy(), { once: true });
        const packet = encodeCancel(backend.pid, Buffer.from(backend.secret, "latin1"));
        socket.write(packet, 0, packet.length);
        socket.resume();
      });
    } catch {
      // A server that cannot be reached runs nothing that could be cancelled from here.
    } finally {
      limit.clear();
    }
  }

  async #connect(
    route: Route,
    connectMs: number,
    signal: AbortSignal,
  ): Promise<{ socket: NetSocket; endPoint: Buffer | null }> {
    const limit = deadline(this.#timers, connectMs, signal);
    try {
      const socket = await connectSocket({ host: route.host, port: route.port }, limit.signal);
      if (this.#tls.mode === "disable") return { socket, endPoint: null };
      const answer = await oneByte(socket, limit.signal);
      if (answer === answerYes) {
        const secured = await socket.secure((plain) => this.#secure(plain, route.host, limit.signal));
        return { socket, endPoint: endPointOf(secured) };
      }
      if (answer === answerNo && this.#tls.mode === "prefer") return { socket, endPoint: null };
      socket.destroy();
      throw new BackendFailure("not-ready", `${route.node} does not encrypt, and backend_tls asks for it`);
    } catch (thrown) {
      if (thrown instanceof BackendFailure) throw thrown;
      const why = thrown instanceof Error ? thrown.message : String(thrown);
      throw new BackendFailure("unreachable", `${route.node} cannot be reached: ${why}`);
    } finally {
      limit.clear();
    }
  }

  #secure(
    plain: Parameters<Parameters<NetSocket["secure"]>[0]>[0],
    host: string,
    signal: AbortSignal,
  ): Promise<TLSSocket> {
    return new Promise((resolve, reject) => {
      const verified = this.#tls.mode === "verify-full";
      const socket = connectTls({
        socket: plain,
        ...(isIP(host) === 0 ? { servername: host } : {}),
        host,
        rejectUnauthorized: verified,
        ...(this.#authority === undefined ? {} : { ca: this.#authority }),
      });
      const abort = (): void => void socket.destroy(new Error("TLS was not agreed in time"));
      signal.addEventListener("abort", abort, { once: true });
      socket.once("error", reject);
      socket.once("close", () => reject(new Error("the connection ended while TLS was being agreed")));
      socket.once("secureConnect", () => {
        signal.removeEventListener("abort", abort);
        socket.removeListener("error", reject);
        resolve(socket);
      });
    });
  }
}

/** Sends SSLRequest and reads the answer: one byte, and nothing may follow it unencrypted. */
function oneByte(socket: NetSocket, signal: AbortSignal): Promise<number> {
  return new Promise((resolve, reject) => {
    const fail = (what: string): void => {
      socket.destroy();
      reject(new BackendFailure("unreachable", what));
    };
    signal.addEventListener("abort", () => fail("TLS was not agreed in time"), { once: true });
    socket.onEnd = () => fail("PostgreSQL closed the connection when asked for TLS");
    socket.onClose = () => fail("the connection ended when TLS was asked for");
    socket.onBytes = (buffer, length) => {
      socket.pause();
      if (length !== 1) {
        fail("bytes came before TLS was agreed");
        return;
      }
      socket.onEnd = () => undefined;
      socket.onClose = () => undefined;
      resolve(buffer.readUInt8(0));
    };
    const packet = encodeSslRequest();
    socket.write(packet, 0, packet.length);
    socket.resume();
  });
}

/** The server's certificate for channel binding; null = it allows none. */
function endPointOf(secured: TLSSocket): Buffer | null {
  const certificate = secured.getPeerX509Certificate();
  return certificate === undefined ? null : certificateHash(certificate.raw);
}
