import { request as httpRequest, type IncomingHttpHeaders } from "node:http";
import { request as httpsRequest, type RequestOptions } from "node:https";
import { startApi, type ApiOptions, type RunningApi } from "../../src/api/server.ts";
import { systemClock } from "../../src/system/clock.ts";
import { systemTimers } from "../../src/system/timers.ts";
import { Secret } from "../../src/values/secret.ts";
import { FixtureService } from "./agent-service.ts";

export const testToken = "token-of-the-tests";

/** What the API logged. */
export type LogLines = (readonly [string, string, Readonly<Record<string, unknown>>?])[];

/** The API on a free port of 127.0.0.1 over a fixture. */
export async function startTestApi(
  over: Partial<ApiOptions> = {},
): Promise<{ api: RunningApi; service: FixtureService; log: LogLines }> {
  const service = new FixtureService();
  const log: LogLines = [];
  const api = await startApi({
    service,
    listen: "127.0.0.1",
    port: 0,
    tls: null,
    auth: {
      token: () => new Secret(testToken),
      basic: { username: "operator", password: new Secret("password-of-the-tests") },
    },
    log: (level, event, fields) => log.push(fields === undefined ? [level, event] : [level, event, fields]),
    clock: systemClock,
    timers: systemTimers,
    ...over,
  });
  return { api, service, log };
}

export interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  /** The body as JSON. */
  json(): unknown;
}

/** One request over a connection of its own. */
export function ask(
  base: string,
  method: string,
  path: string,
  options: {
    readonly body?: string;
    readonly headers?: Record<string, string>;
    readonly tls?: RequestOptions;
  } = {},
): Promise<Reply> {
  const url = new URL(path, base);
  return new Promise((resolve, reject) => {
    const send = url.protocol === "https:" ? httpsRequest : httpRequest;
    const outgoing = send(
      url,
      { method, agent: false, headers: { ...framing(options), ...options.headers }, ...options.tls },
      (incoming) => {
        const chunks: Buffer[] = [];
        incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
        incoming.on("error", reject);
        incoming.on("end", () => {
          const text = Buffer.concat(chunks).toString("utf8");
          resolve({
            status: incoming.statusCode ?? 0,
            headers: incoming.headers,
            text,
            json: () => JSON.parse(text) as unknown,
          });
        });
      },
    );
    outgoing.on("error", reject);
    outgoing.end(options.body);
  });
}

/** node's client announces no length for a DELETE by itself. */
function framing(options: {
  readonly body?: string;
  readonly headers?: Record<string, string>;
}): Record<string, string> {
  const chunked = options.headers?.["transfer-encoding"] !== undefined;
  return options.body === undefined || chunked
    ? {}
    : { "content-length": String(Buffer.byteLength(options.body)) };
}

/** The same with the token. */
export function askAs(base: string, method: string, path: string, body?: unknown): Promise<Reply> {
  return ask(base, method, path, {
    headers: { authorization: `Bearer ${testToken}` },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
}
