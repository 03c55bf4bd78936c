import { connect as connectPlain, isIP, type Socket } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { certificateHash } from "../../pgwire/certificate-hash.ts";
import { encodeSslRequest } from "../../pgwire/startup.ts";
import type { Random } from "../../system/random.ts";
import { deadline, type Timers } from "../../system/timers.ts";
import { Fault } from "../../values/fault.ts";
import { certificateFault, readAuthority } from "../server-certificate.ts";
import { ReplicationConnection } from "./connection.ts";
import { logIn } from "./login.ts";
import { MessageStream } from "./message-stream.ts";
import { lostFault } from "./refusal.ts";
import { SocketReader } from "./socket-reader.ts";
import { describeTarget, type ReplicationTarget } from "./target.ts";

const answerYes = 0x53;
const answerNo = 0x4e;
/** A dead server's host sends no end: the kernel asks whether it lives after this long without a word. */
const keepAliveMs = 10_000;

/** What a connection is made with. */
export interface ConnectPorts {
  readonly timers: Timers;
  readonly random: Random;
}

/**
 * Connects and logs in for physical replication.
 * @throws Fault POSTGRES_UNREACHABLE, POSTGRES_AUTHENTICATION, POSTGRES_CERTIFICATE, TOO_FEW_WALSENDERS, CONFIG_UNREADABLE
 */
export async function connectReplication(
  target: ReplicationTarget,
  ports: ConnectPorts,
  signal?: AbortSignal,
): Promise<ReplicationConnection> {
  const { timers, random } = ports;
  const authority = target.tls.caFile === null ? null : await readAuthority(target.tls.caFile);
  const { socket, reader, endPoint } = await within(ports, target, signal, async (limit) => {
    const plain = await open(target, limit);
    return secured(plain, target, authority, limit);
  });
  const stream = new MessageStream(socket, reader);
  try {
    const nonce = random.secret(18);
    const server = await within(ports, target, signal, (limit) =>
      logIn(stream, { target, nonce, endPoint }, limit),
    );
    return new ReplicationConnection(stream, target, server, timers);
  } catch (thrown) {
    stream.destroy();
    throw thrown;
  }
}

async function within<T>(
  { timers }: ConnectPorts,
  target: ReplicationTarget,
  signal: AbortSignal | undefined,
  work: (limit: AbortSignal) => Promise<T>,
): Promise<T> {
  const limit = deadline(timers, target.connectMs, signal);
  try {
    return await work(limit.signal);
  } catch (thrown) {
    if (thrown instanceof Fault && !limit.expired()) throw thrown;
    const certificate = certificateFault(describeTarget(target), thrown, target.tls.caFile);
    if (certificate !== null) throw certificate;
    const why = thrown instanceof Error ? thrown.message : String(thrown);
    throw lostFault(target, limit.expired() ? `no answer within ${target.connectMs} ms` : why, thrown);
  } finally {
    limit.clear();
  }
}

interface OpenSocket {
  readonly socket: Socket;
  /** null = it is read as sockets are. */
  readonly reader: SocketReader | null;
}

function open({ host, port, bulk }: ReplicationTarget, signal: AbortSignal): Promise<OpenSocket> {
  const reader = bulk === true ? new SocketReader() : null;
  return new Promise((resolve, reject) => {
    const where = host.startsWith("/") ? { path: `${host}/.s.PGSQL.${port}` } : { host, port };
    const socket = connectPlain({
      ...where,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: keepAliveMs,
      ...(reader === null ? {} : { onread: reader.onread }),
    });
    const done = endOf(socket, signal, reject);
    socket.once("connect", () => {
      done();
      resolve({ socket, reader });
    });
  });
}

interface SecuredSocket extends OpenSocket {
  /** For the channel binding; null = not encrypted, or the certificate allows none. */
  readonly endPoint: Buffer | null;
}

async function secured(
  opened: OpenSocket,
  target: ReplicationTarget,
  authority: string | null,
  signal: AbortSignal,
): Promise<SecuredSocket> {
  const { mode } = target.tls;
  // A unix socket is not encrypted by PostgreSQL.
  if (mode === "disable" || target.host.startsWith("/")) return { ...opened, endPoint: null };
  const answer = await askForTls(opened, signal);
  if (answer === answerNo && mode === "prefer") return { ...opened, endPoint: null };
  const { socket: plain } = opened;
  if (answer !== answerYes) {
    plain.destroy();
    throw lostFault(target, "the server does not encrypt, and the configuration asks for it");
  }
  const socket = await new Promise<TLSSocket>((resolve, reject) => {
    const over = connectTls({
      socket: plain,
      ...(isIP(target.host) === 0 ? { servername: target.host } : {}),
      host: target.host,
      rejectUnauthorized: mode === "verify-full",
      ...(authority === null ? {} : { ca: authority }),
    });
    const done = endOf(over, signal, reject);
    over.once("secureConnect", () => {
      done();
      resolve(over);
    });
  });
  const certificate = socket.getPeerX509Certificate();
  const endPoint = certificate === undefined ? null : certificateHash(certificate.raw);
  return { socket, reader: null, endPoint };
}

/** Sends SSLRequest and reads the answer: one byte, and nothing may follow it unencrypted. */
function askForTls({ socket, reader }: OpenSocket, signal: AbortSignal): Promise<number> {
  return new Promise((resolve, reject) => {
    const done = endOf(socket, signal, reject);
    const take = (chunk: Buffer): void => {
      socket.pause();
      done();
      if (chunk.length === 1) resolve(chunk[0] ?? 0);
      else {
        socket.destroy();
        reject(new Error("bytes came before TLS was agreed"));
      }
    };
    if (reader === null) socket.once("data", take);
    else reader.onChunk = take;
    socket.write(encodeSslRequest());
  });
}

/** Rejects when the socket ends or the time is over. @returns to be called when neither matters any more */
function endOf(socket: Socket, signal: AbortSignal, reject: (error: Error) => void): () => void {
  const failed = (error: Error): void => {
    done();
    socket.on("error", () => undefined);
    socket.destroy();
    reject(error);
  };
  const closed = (): void => failed(new Error("the connection was closed"));
  const late = (): void => failed(new Error("it took too long"));
  const done = (): void => {
    socket.off("error", failed).off("close", closed);
    signal.removeEventListener("abort", late);
  };
  socket.on("error", failed).on("close", closed);
  if (signal.aborted) late();
  else signal.addEventListener("abort", late, { once: true });
  return done;
}
