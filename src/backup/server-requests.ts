import { readFileSync } from "node:fs";
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { deadline, type Timers } from "../system/timers.ts";
import { Fault, faultCatalogue, toFault, type FaultCode } from "../values/fault.ts";
import type { Secret } from "../values/secret.ts";

/** Where a backup server is, and with what it is asked. */
export interface ServerAddress {
  /** `https://backup1:8009`, without a slash at its end. */
  readonly url: string;
  readonly token: () => Secret | null;
  /** The authority of its certificate, PEM; null = the system's. */
  readonly caFile: string | null;
}

interface ServerQuestion {
  readonly method: "GET" | "HEAD" | "PUT" | "POST" | "DELETE";
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  /** The answer is at most so long. */
  readonly limitBytes: number;
  readonly signal?: AbortSignal | undefined;
}

export interface ServerAnswer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: Buffer;
}

const manyAttempts = 5;
const firstPauseMs = 200;
/** An answer that is not there whole by then is asked for again. */
const answerMs = 60_000;

/** Requests to a backup server: connections are kept, what failed on the way is tried again. Every request may be repeated. */
export class ServerRequests {
  readonly url: string;
  readonly #address: ServerAddress;
  readonly #timers: Timers;
  readonly #attempts: number;
  readonly #base: URL;
  readonly #agent: HttpAgent | HttpsAgent;

  /** @throws Fault CONFIG_UNREADABLE */
  constructor(address: ServerAddress, timers: Timers, { attempts = manyAttempts } = {}) {
    this.url = address.url;
    this.#address = address;
    this.#timers = timers;
    this.#attempts = attempts;
    this.#base = new URL(address.url);
    const ca = address.caFile === null ? {} : { ca: readAuthority(address.caFile) };
    const settings = { keepAlive: true, maxSockets: 16, ...ca };
    this.#agent = this.#base.protocol === "https:" ? new HttpsAgent(settings) : new HttpAgent(settings);
  }

  /** The answer, whatever its status below 500. @throws Fault BACKUP_STORE_UNREACHABLE, and the server's own from 500 on */
  async send(question: ServerQuestion): Promise<ServerAnswer> {
    for (let attempt = 1; ; attempt++) {
      let problem: Fault;
      try {
        const answer = await this.#once(question);
        if (answer.status < 500) return answer;
        problem = faultOf(answer, this.url);
      } catch (thrown) {
        if (question.signal?.aborted === true) throw thrown;
        problem = new Fault("BACKUP_STORE_UNREACHABLE", `The backup server at ${this.url} does not answer`, {
          detail: toFault(thrown).message,
          hint: "Is it running (pgherd backup serve), and can this host reach it?",
          cause: thrown,
        });
      }
      if (attempt === this.#attempts) throw problem;
      await this.#timers.sleep(firstPauseMs * 2 ** (attempt - 1), question.signal);
      question.signal?.throwIfAborted();
    }
  }

  close(): void {
    this.#agent.destroy();
  }

  async #once(question: ServerQuestion): Promise<ServerAnswer> {
    const { method, path, body, limitBytes } = question;
    const limit = deadline(this.#timers, answerMs, question.signal);
    const token = this.#address.token();
    const headers = {
      ...question.headers,
      ...(body === undefined ? {} : { "content-length": String(body.length) }),
      ...(token === null ? {} : { authorization: `Bearer ${token.reveal()}` }),
    };
    const start = this.#base.protocol === "https:" ? httpsRequest : httpRequest;
    try {
      return await new Promise<ServerAnswer>((resolve, reject) => {
        const sent = start(
          new URL(path, this.#base),
          { method, agent: this.#agent, headers, signal: limit.signal },
          (response) => {
            collect(response, limitBytes, method === "HEAD").then(
              (bytes) =>
                resolve({ status: response.statusCode ?? 0, headers: response.headers, body: bytes }),
              reject,
            );
          },
        );
        sent.on("error", reject);
        sent.end(body);
      });
    } catch (thrown) {
      if (limit.expired()) throw new Error(`it took longer than ${answerMs / 1000} s`, { cause: thrown });
      throw thrown;
    } finally {
      limit.clear();
    }
  }
}

async function collect(response: IncomingMessage, limitBytes: number, isHead: boolean): Promise<Buffer> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of response as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes > limitBytes) throw new Error("the answer is longer than it can be");
    parts.push(part);
  }
  const announced = Number(response.headers["content-length"] ?? Number.NaN);
  if (!response.complete || (!isHead && Number.isFinite(announced) && announced !== bytes))
    throw new Error("the answer was cut off");
  return Buffer.concat(parts, bytes);
}

/** The server's own fault, or one that names the status. */
export function faultOf({ status, body }: ServerAnswer, url: string): Fault {
  const text = body.subarray(0, 8_192).toString("utf8");
  try {
    const { code, message, detail, hint } = JSON.parse(text) as Readonly<Record<string, unknown>>;
    if (typeof code === "string" && code in faultCatalogue && typeof message === "string")
      return new Fault(code as FaultCode, message, {
        ...(typeof detail === "string" ? { detail } : {}),
        ...(typeof hint === "string" ? { hint } : {}),
      });
  } catch {
    // no JSON: said below
  }
  if (status === 401 || status === 403)
    return new Fault("UNAUTHORIZED", `The backup server at ${url} refuses this request`, {
      hint: "Give its token with --token-file or PGHERD_TOKEN.",
    });
  return new Fault("BACKUP_STORE_UNREACHABLE", `The backup server at ${url} answered with status ${status}`, {
    detail: text.slice(0, 200),
  });
}

function readAuthority(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (thrown) {
    throw new Fault("CONFIG_UNREADABLE", `The authority in ${file} cannot be read`, {
      detail: toFault(thrown).message,
      cause: thrown,
    });
  }
}
