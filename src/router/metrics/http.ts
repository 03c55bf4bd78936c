import { timingSafeEqual, createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { exposition } from "../../system/exposition.ts";
import type { Timers } from "../../system/timers.ts";
import { watchProcess } from "../../system/process-probe.ts";
import { Fault, toFault } from "../../values/fault.ts";
import { fdOf } from "../listener.ts";
import type { RouterControl, RouterSource } from "../console/source.ts";
import { Refusal } from "../console/refusal.ts";
import { healthOf } from "./figures.ts";
import { readOrder } from "./orders.ts";
import { routerMetrics } from "./router-metrics.ts";
import { routerStatus } from "./status.ts";

export interface RouterHttpOptions {
  readonly source: RouterSource;
  readonly control: RouterControl;
  /** Address to listen on. */
  readonly listen: string;
  /** 0 = a free one. */
  readonly port: number;
  /** A socket that listens there already. */
  readonly fd?: number | undefined;
  /** What a client must send as bearer token to list sessions and to give orders; null = nobody may. */
  readonly token: () => string | null;
  readonly note: (line: string) => void;
  readonly timers: Timers;
}

export interface RouterHttp {
  /** Where it listens, with the real port. */
  readonly url: string;
  /** The open file of its socket; null = this Node does not tell. */
  readonly fd: number | null;
  close(): Promise<void>;
}

/** How long a request may take to arrive; an order is a line. */
const requestMs = 5_000;
/** How long an answer may take that is under way when the server ends. */
const closingMs = 500;
const longestBody = 4_096;
/** Scrapers and checks, not applications. */
const mostConnections = 100;

/** An answer; `lines` are sent one by one as the client takes them. */
type Reply =
  | { readonly status: number; readonly type: string; readonly body: string }
  | { readonly lines: Iterable<string> };

/** Starts the router's HTTP paths: metrics, health, status, sessions, orders. @throws Fault PORT_OCCUPIED, CONFIG_INVALID */
export async function startRouterHttp(options: RouterHttpOptions): Promise<RouterHttp> {
  const probe = watchProcess();
  const server = createServer(
    {
      headersTimeout: requestMs,
      requestTimeout: requestMs,
      keepAliveTimeout: requestMs,
      connectionsCheckingInterval: 1_000,
      maxHeaderSize: 16_384,
      requireHostHeader: false,
    },
    (incoming, response) => void respond(incoming, response),
  );
  server.maxConnections = mostConnections;

  const metricsText = (): string => {
    const { cluster, router } = options.source.identity;
    return exposition(routerMetrics(options.source, probe.look()), { scope: cluster, router });
  };

  const answer = async (incoming: IncomingMessage, gone: AbortSignal): Promise<Reply> => {
    const path = (incoming.url ?? "/").split("?")[0];
    const reads = incoming.method === "GET" || incoming.method === "HEAD";
    if (reads && path === "/metrics")
      return { status: 200, type: "text/plain; version=0.0.4; charset=utf-8", body: metricsText() };
    if (reads && path === "/health") return healthReply(options.source);
    if (reads && path === "/status") return json(200, routerStatus(options.source));
    if (path === "/sessions" || path === "/orders") {
      if (!mayEnter(incoming, options.token())) return unauthorized();
      if (reads && path === "/sessions") return { lines: sessionLines(options.source) };
      if (incoming.method === "POST" && path === "/orders") {
        const order = readOrder(await bodyOf(incoming));
        const result = await options.control.carryOut(order, gone);
        options.note(`http: ${Object.values(order).join(" ")}: ${result.notice ?? "done"}`);
        return json(200, result);
      }
    }
    return problem(404, "NOT_FOUND", `There is no ${incoming.method ?? ""} ${path ?? ""} here.`);
  };

  const respond = async (incoming: IncomingMessage, response: ServerResponse): Promise<void> => {
    const gone = new AbortController();
    response.once("close", () => gone.abort());
    try {
      await send(incoming, response, await answer(incoming, gone.signal).catch(refusalReply));
    } catch {
      response.destroy(); // the client has gone, or what it was sent failed half-way
    }
  };

  try {
    return {
      url: `http://${urlHost(options.listen)}:${await listen(server, options)}`,
      fd: fdOf(server),
      close: async () => {
        probe.close();
        const closed = new Promise<void>((resolve) => server.close(() => resolve()));
        server.closeIdleConnections();
        const late = options.timers.after(closingMs, () => server.closeAllConnections());
        await closed;
        late.cancel();
      },
    };
  } catch (thrown) {
    probe.close();
    throw thrown;
  }
}

function healthReply(source: RouterSource): Reply {
  const reason = healthOf(source);
  return json(reason === null ? 200 : 503, {
    healthy: reason === null,
    reason,
    primary: source.topology().primary?.node ?? null,
  });
}

function* sessionLines(source: RouterSource): Generator<string> {
  for (const view of source.sessions()) yield `${JSON.stringify(view)}\n`;
}

function json(status: number, body: unknown): Reply {
  return { status, type: "application/json", body: `${JSON.stringify(body)}\n` };
}

function problem(status: number, code: string, message: string, hint: string | null = null): Reply {
  return json(status, { code, message, detail: null, hint });
}

function unauthorized(): Reply {
  return problem(401, "UNAUTHORIZED", "This needs the API token of the cluster as bearer token.");
}

function refusalReply(thrown: unknown): Reply {
  if (thrown instanceof Refusal) return problem(409, "REQUEST_INVALID", thrown.message, thrown.hint);
  const fault = toFault(thrown);
  return json(
    fault.code === "REQUEST_INVALID" || fault.code === "REQUEST_TOO_LARGE" ? 400 : 500,
    fault.report(),
  );
}

/** Compared as digests: how long it takes tells nothing of the token. */
function mayEnter(incoming: IncomingMessage, token: string | null): boolean {
  const [, given] = /^Bearer (\S+)$/i.exec(incoming.headers.authorization ?? "") ?? [];
  if (given === undefined || token === null) return false;
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(given), digest(token));
}

async function bodyOf(incoming: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of incoming as AsyncIterable<Buffer>) {
    length += piece.length;
    if (length > longestBody) throw new Fault("REQUEST_TOO_LARGE", "An order is a short JSON object.");
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString("utf8");
}

async function send(incoming: IncomingMessage, response: ServerResponse, reply: Reply): Promise<void> {
  if (response.destroyed) return;
  if ("lines" in reply) {
    response.writeHead(200, { "content-type": "application/x-ndjson", "cache-control": "no-store" });
    await pipeline(Readable.from(reply.lines), response);
    return;
  }
  response.writeHead(reply.status, {
    "content-type": reply.type,
    "content-length": Buffer.byteLength(reply.body),
    "cache-control": "no-store",
    ...(!incoming.complete && { connection: "close" }),
  });
  response.end(incoming.method === "HEAD" ? undefined : reply.body);
}

function listen(server: Server, { listen: host, port, fd }: RouterHttpOptions): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const code = error.code === "EADDRINUSE" ? "PORT_OCCUPIED" : "CONFIG_INVALID";
      reject(
        new Fault(code, `The metrics cannot be served on ${host}:${port}`, {
          detail: error.message,
          hint: "Set metrics.listen and metrics.port in the router's file.",
          cause: error,
        }),
      );
    });
    server.listen(fd === undefined ? { host, port } : { fd }, () => {
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : port);
    });
  });
}

function urlHost(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}
