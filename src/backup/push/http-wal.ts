import { readFileSync } from "node:fs";
import { request as httpRequest, Agent as HttpAgent, type IncomingMessage } from "node:http";
import { request as httpsRequest, Agent as HttpsAgent } from "node:https";
import { deadline, type Timers } from "../../system/timers.ts";
import { Fault } from "../../values/fault.ts";
import type { FencingToken } from "../../values/names.ts";
import type { Secret } from "../../values/secret.ts";
import { historyFileName } from "../../postgres/timelines.ts";
import { toldFault, wordsOf } from "../server-requests.ts";
import { gapJson } from "../wal/small-records.ts";
import type { WalPort } from "./wal-port.ts";

export interface HttpWalOptions {
  /** Of the backup server: `https://backup1:8009`. */
  readonly url: string;
  readonly cluster: string;
  readonly token: () => Secret | null;
  /** The authority of its certificate, PEM; null = the system's. */
  readonly caFile: string | null;
  readonly source: string;
  readonly timers: Timers;
}

/** One answer, a segment with it, over a slow line. */
const answerMs = 60_000;
/** The largest segment PostgreSQL knows. */
const mostBytes = 1 << 30;

/** The archive of a backup server over HTTP (README.md of src/backup: its paths). Connections are kept between calls. */
export function httpWal(options: HttpWalOptions): WalPort & { close(): void } {
  const base = new URL(options.url);
  const ca = options.caFile === null ? undefined : readFileSync(options.caFile);
  const settings = { keepAlive: true, maxSockets: 8, ...(ca === undefined ? {} : { ca }) };
  const agent = base.protocol === "https:" ? new HttpsAgent(settings) : new HttpAgent(settings);
  const root = `/v1/clusters/${encodeURIComponent(options.cluster)}/wal`;
  const call = (
    method: string,
    path: string,
    body: Uint8Array | null,
    headers: Readonly<Record<string, string>>,
    signal?: AbortSignal,
  ): Promise<Answer> =>
    exchange({ base, agent, method, path: root + path, body, headers, options, signal: signal ?? null });
  const put = async (name: string, bytes: Uint8Array, token: FencingToken | null): Promise<string> => {
    const headers = {
      "content-type": "application/octet-stream",
      "x-pgherd-source": options.source,
      ...(token === null ? {} : { "x-pgherd-token": String(token) }),
    };
    const answer = await call("PUT", `/files/${name}`, bytes, headers);
    if (answer.status !== 200) throw faultOf(answer);
    const value = JSON.parse(answer.body.toString("utf8")) as { readonly outcome?: unknown };
    return String(value.outcome);
  };
  return {
    fetch: async (name, { partial, towards, signal }) => {
      const query = new URLSearchParams({ partial: String(partial) });
      if (towards !== null && towards !== undefined) query.set("towards", String(towards));
      const answer = await call("GET", `/files/${name}?${query.toString()}`, null, {}, signal);
      if (answer.status === 200) return answer.body;
      const fault = faultOf(answer);
      if (fault.code === "BACKUP_WAL_UNKNOWN") return null;
      throw fault;
    },
    store: async ({ name, bytes, token }) => {
      const outcome = await put(name, bytes, token);
      return outcome === "conflict" || outcome === "identical" ? outcome : "stored";
    },
    storeHistory: async (timeline, text, token) => {
      await put(historyFileName(timeline), Buffer.from(text, "utf8"), token);
    },
    recordGap: async (gap) => {
      const answer = await call("POST", "/gaps", gapJson(gap), { "content-type": "application/json" });
      if (answer.status >= 300) throw faultOf(answer);
    },
    close: () => agent.destroy(),
  };
}

interface Answer {
  readonly status: number;
  readonly body: Buffer;
}

interface Exchange {
  readonly base: URL;
  readonly agent: HttpAgent | HttpsAgent;
  readonly method: string;
  readonly path: string;
  readonly body: Uint8Array | null;
  readonly headers: Readonly<Record<string, string>>;
  readonly options: HttpWalOptions;
  readonly signal: AbortSignal | null;
}

async function exchange(of: Exchange): Promise<Answer> {
  const { base, agent, method, path, body, options } = of;
  const limit = deadline(options.timers, answerMs, of.signal ?? undefined);
  const token = options.token();
  const headers = {
    ...of.headers,
    ...(body === null ? {} : { "content-length": String(body.length) }),
    ...(token === null ? {} : { authorization: `Bearer ${token.reveal()}` }),
  };
  try {
    return await new Promise<Answer>((resolve, reject) => {
      const start = base.protocol === "https:" ? httpsRequest : httpRequest;
      const sent = start(
        new URL(path, base),
        { method, agent, headers, signal: limit.signal },
        (response) => {
          collect(response).then(
            (bytes) => resolve({ status: response.statusCode ?? 0, body: bytes }),
            reject,
          );
        },
      );
      sent.on("error", reject);
      sent.end(body ?? undefined);
    });
  } catch (thrown) {
    throw new Fault("BACKUP_STORE_UNREACHABLE", `The backup server at ${base.host} does not answer.`, {
      detail: limit.expired()
        ? `It took longer than ${answerMs / 1000} s.`
        : thrown instanceof Error
          ? thrown.message
          : String(thrown),
      cause: thrown,
    });
  } finally {
    limit.clear();
  }
}

async function collect(response: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of response as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > mostBytes) throw new Error("the answer is larger than any segment");
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** The server's own fault, or one that names its status. */
function faultOf({ status, body }: Answer): Fault {
  const words = wordsOf(body);
  return (
    toldFault(words) ??
    new Fault("BACKUP_STORE_UNREACHABLE", `The backup server answered with status ${status}.`, {
      detail: words.slice(0, 200),
    })
  );
}
