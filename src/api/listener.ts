import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { Fault, toFault } from "../values/fault.ts";
import type { ApiReply } from "./exchange.ts";
import { limitSilence } from "./silent-clients.ts";

/** Files for https, in PEM. */
export interface ApiTls {
  /** The server's certificate with its chain. */
  readonly certFile: string;
  readonly keyFile: string;
  /** Clients with a certificate of this authority may write without a token; null = none is asked for. */
  readonly clientCaFile: string | null;
}

export interface ListenerOptions {
  /** Address to listen on, such as `0.0.0.0`. */
  readonly listen: string;
  /** 0 = a free one. */
  readonly port: number;
  readonly tls: ApiTls | null;
  /** Which file its settings stand in, for people: `node file`. */
  readonly file: string;
  /** How long a whole request may take to arrive, in milliseconds. */
  readonly requestMs: number;
  readonly onRequest: (incoming: IncomingMessage, response: ServerResponse) => void;
}

export interface RunningListener {
  /** Where it listens, with the real port. */
  readonly url: string;
  /** Reads certificate and key again, for connections to come. @throws Fault CONFIG_UNREADABLE, and the old ones stay */
  reloadTls(): void;
  /** Ends every connection and the listener. */
  close(): Promise<void>;
}

/** How long the head of a request may take. A silent client is cut after it. */
const headMs = 5000;
/** How long an idle connection is kept for a next request. */
const keepAliveMs = 5000;
/** The most connections at the same time. */
const connectionLimit = 1000;

/** Listens for HTTP, with a bound to everything a client can do. @throws Fault PORT_OCCUPIED, CONFIG_UNREADABLE */
export async function startListener(options: ListenerOptions): Promise<RunningListener> {
  const { server, reloadTls } = createListener(options);
  const port = await listen(server, options);
  const host = options.listen.includes(":") ? `[${options.listen}]` : options.listen;
  return {
    url: `${options.tls === null ? "http" : "https"}://${host}:${port}`,
    reloadTls,
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}

/** Sends a reply of the routes. */
export function sendReply(response: ServerResponse, reply: ApiReply): void {
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

function createListener(options: ListenerOptions): {
  readonly server: Server;
  readonly reloadTls: () => void;
} {
  const { tls, onRequest } = options;
  const limits = {
    headersTimeout: headMs,
    requestTimeout: options.requestMs,
    keepAliveTimeout: keepAliveMs,
    connectionsCheckingInterval: 1000,
    maxHeaderSize: 16 * 1024,
    // Load balancers check with HTTP/1.1 and no Host; the name a node is asked by means nothing here.
    requireHostHeader: false,
  };
  if (tls === null) return { server: guarded(createServer(limits, onRequest)), reloadTls: () => undefined };
  const material = (): TlsMaterial => readTls(tls, options.file);
  const server = createSecureServer({ ...limits, ...material(), handshakeTimeout: headMs }, onRequest);
  return { server: guarded(server), reloadTls: () => server.setSecureContext(material()) };
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

function readTls(tls: ApiTls, file: string): TlsMaterial {
  return {
    cert: readPem(tls.certFile, file),
    key: readPem(tls.keyFile, file),
    ...(tls.clientCaFile !== null && { ca: readPem(tls.clientCaFile, file) }),
    requestCert: tls.clientCaFile !== null,
    // Reading is open, so a client without a certificate is let in; what it may change is decided per request.
    rejectUnauthorized: false,
  };
}

function readPem(file: string, of: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (thrown) {
    throw new Fault("CONFIG_UNREADABLE", `The file ${file} cannot be read`, {
      detail: toFault(thrown).message,
      hint: `It belongs to api.tls of the ${of}, and the user it runs as must be able to read it.`,
      cause: thrown,
    });
  }
}

function listen(server: Server, options: ListenerOptions): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => reject(listenFault(error, options)));
    server.listen({ host: options.listen, port: options.port }, () => {
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : options.port);
    });
  });
}

function listenFault(error: NodeJS.ErrnoException, { listen: host, port, file }: ListenerOptions): Fault {
  const where = `${host}:${port}`;
  if (error.code === "EADDRINUSE")
    return new Fault("PORT_OCCUPIED", `The API's port ${port} is in use by another program`, {
      detail: `${where} cannot be listened on.`,
      hint: `Find the program with \`ss -ltnp 'sport = :${port}'\` and end it, or set api.port in the ${file}.`,
      cause: error,
    });
  return new Fault("CONFIG_INVALID", `The API cannot listen on ${where}`, {
    detail: error.message,
    hint: "Set api.listen to an address of this host and api.port to a port this user may open.",
    cause: error,
  });
}
