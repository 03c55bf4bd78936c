import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { Log } from "../agent/context.ts";
import type { AgentService } from "../agent/service.ts";
import type { Clock } from "../system/clock.ts";
import type { Timers } from "../system/timers.ts";
import { Fault, toFault } from "../values/fault.ts";
import type { ApiContext } from "./context.ts";
import type { ApiAuth } from "./credentials.ts";
import { dispatch } from "./dispatch.ts";
import { toApiRequest, type ApiReply } from "./exchange.ts";
import { EventCounts } from "./metrics/event-counts.ts";
import { watchProcess } from "../system/process-probe.ts";
import { ScheduledRestart } from "./patroni/scheduled-restart.ts";
import { limitSilence } from "./silent-clients.ts";
import { StreamHub } from "./stream.ts";

/** Files for https, in PEM. */
export interface ApiTls {
  /** The server's certificate with its chain. */
  readonly certFile: string;
  readonly keyFile: string;
  /** Clients with a certificate of this authority may write without a token; null = none is asked for. */
  readonly clientCaFile: string | null;
}

export interface ApiOptions {
  readonly service: AgentService;
  /** Address to listen on, such as `0.0.0.0`. */
  readonly listen: string;
  /** 0 = a free one. */
  readonly port: number;
  readonly tls: ApiTls | null;
  readonly auth: ApiAuth;
  readonly log: Log;
  readonly clock: Clock;
  readonly timers: Timers;
}

export interface RunningApi {
  /** Where it listens, with the real port. */
  readonly url: string;
  /** Reads certificate and key again, for connections to come. @throws Fault CONFIG_UNREADABLE, and the old ones stay */
  reloadTls(): void;
  /** Ends every connection and the listener. */
  close(): Promise<void>;
}

/** How long the head of a request may take; its body twice that. A silent client is cut after it. */
const headMs = 5000;
/** How long an idle connection is kept for a next request. */
const keepAliveMs = 5000;
/** The most connections at the same time. */
const connectionLimit = 1000;

/** Starts the API. @throws Fault PORT_OCCUPIED, CONFIG_UNREADABLE */
export async function startApi(options: ApiOptions): Promise<RunningApi> {
  const { service, clock, timers, log, tls } = options;
  const context: ApiContext = {
    service,
    clock,
    log,
    stream: new StreamHub(service, timers),
    events: new EventCounts(service),
    process: watchProcess(),
    restart: new ScheduledRestart(service, clock, timers, log),
  };
  const closeContext = (): void => {
    context.stream.close();
    context.events.close();
    context.process.close();
    context.restart.cancel();
  };
  try {
    const { server, reloadTls } = createListener(options, (incoming, response) => {
      void answer(context, options, incoming, response);
    });
    const port = await listen(server, options);
    const host = options.listen.includes(":") ? `[${options.listen}]` : options.listen;
    return {
      url: `${tls === null ? "http" : "https"}://${host}:${port}`,
      reloadTls,
      close: async () => {
        closeContext();
        const closed = new Promise<void>((resolve) => server.close(() => resolve()));
        server.closeAllConnections();
        await closed;
      },
    };
  } catch (thrown) {
    closeContext();
    throw thrown;
  }
}

type Listener = (incoming: IncomingMessage, response: ServerResponse) => void;

function createListener(
  options: ApiOptions,
  onRequest: Listener,
): { readonly server: Server; readonly reloadTls: () => void } {
  const limits = {
    headersTimeout: headMs,
    requestTimeout: 2 * headMs,
    keepAliveTimeout: keepAliveMs,
    connectionsCheckingInterval: 1000,
    maxHeaderSize: 16 * 1024,
    // Load balancers check with HTTP/1.1 and no Host; the name a node is asked by means nothing here.
    requireHostHeader: false,
  };
  const { tls } = options;
  if (tls === null) return { server: guarded(createServer(limits, onRequest)), reloadTls: () => undefined };
  const server = createSecureServer({ ...limits, ...readTls(tls), handshakeTimeout: headMs }, onRequest);
  return { server: guarded(server), reloadTls: () => server.setSecureContext(readTls(tls)) };
}

function guarded(server: Server): Server {
  server.maxConnections = connectionLimit;
  limitSilence(server);
  server.on("clientError", (_error, socket) => {
    if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
    else socket.destroy();
  });
  return server;
}

interface TlsMaterial {
  readonly cert: string;
  readonly key: string;
  readonly ca?: string;
  readonly requestCert: boolean;
  readonly rejectUnauthorized: boolean;
}

function readTls(tls: ApiTls): TlsMaterial {
  return {
    cert: readPem(tls.certFile),
    key: readPem(tls.keyFile),
    ...(tls.clientCaFile !== null && { ca: readPem(tls.clientCaFile) }),
    requestCert: tls.clientCaFile !== null,
    // Reading is open, so a client without a certificate is let in; what it may change is decided per request.
    rejectUnauthorized: false,
  };
}

function readPem(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (thrown) {
    throw new Fault("CONFIG_UNREADABLE", `The file ${file} cannot be read`, {
      detail: toFault(thrown).message,
      hint: "It belongs to api.tls of the node file, and the agent's user must be able to read it.",
      cause: thrown,
    });
  }
}

function listen(server: Server, options: ApiOptions): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => reject(listenFault(error, options)));
    server.listen({ host: options.listen, port: options.port }, () => {
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : options.port);
    });
  });
}

function listenFault(error: NodeJS.ErrnoException, { listen: host, port }: ApiOptions): Fault {
  const where = `${host}:${port}`;
  if (error.code === "EADDRINUSE")
    return new Fault("PORT_OCCUPIED", `The API's port ${port} is in use by another program`, {
      detail: `${where} cannot be listened on.`,
      hint: `Find the program with \`ss -ltnp 'sport = :${port}'\` and end it, or set api.port in the node file.`,
      cause: error,
    });
  return new Fault("CONFIG_INVALID", `The API cannot listen on ${where}`, {
    detail: error.message,
    hint: "Set api.listen to an address of this host and api.port to a port this user may open.",
    cause: error,
  });
}

async function answer(
  context: ApiContext,
  options: ApiOptions,
  incoming: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  try {
    const verifiesClients = (options.tls?.clientCaFile ?? null) !== null;
    send(response, await dispatch(context, options.auth, toApiRequest(incoming, verifiesClients)));
  } catch (thrown) {
    context.log("error", "api.defect", { message: toFault(thrown).message });
    response.destroy();
  }
}

function send(response: ServerResponse, reply: ApiReply): void {
  if (reply.kind === "stream") {
    if (!response.destroyed) reply.begin(response);
    return;
  }
  response.writeHead(reply.status, {
    "content-type": reply.contentType,
    "content-length": Buffer.byteLength(reply.body),
    "cache-control": "no-store",
    ...(reply.status === 413 && { connection: "close" }),
    ...reply.headers,
  });
  response.end(reply.body);
}
