import { createHash } from "node:crypto";
import { Agent as HttpAgent, request as httpRequest } from "node:http";
import type { IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import type { Timers } from "../../system/timers.ts";
import { deadline } from "../../system/timers.ts";
import { Fault } from "../../values/fault.ts";
import { checkKey } from "./object-store.ts";
import type { ObjectStore, PutOptions, StoredObject } from "./object-store.ts";

export interface S3Settings {
  readonly bucket: string;
  /** Before every key, without slashes at its ends; empty = none. */
  readonly prefix: string;
  readonly region: string;
  /** `https://host:port`; null = AWS. */
  readonly endpoint: string | null;
  /** The bucket in the path instead of the host name. */
  readonly pathStyle: boolean;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string | null;
  /** PEM; null = the system's authorities. */
  readonly ca: string | null;
}

interface S3Request {
  readonly method: "GET" | "HEAD" | "PUT" | "DELETE";
  readonly key: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer;
  readonly signal?: AbortSignal | undefined;
}

interface S3Answer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: Buffer;
}

const attempts = 5;
const firstPauseMs = 200;
/** An answer that does not come, or stops coming, is given up after this. */
const timeoutMs = 60_000;
const listLimit = 4 * 1_048_576;

/** A repository in a bucket of S3 or of a server that speaks it. Objects are at most some 32 MiB, so each is one request. */
export class S3Store implements ObjectStore {
  readonly description: string;
  readonly #settings: S3Settings;
  readonly #timers: Timers;
  readonly #base: URL;
  readonly #agent: HttpAgent | HttpsAgent;
  #conditional: Promise<boolean> | null = null;

  constructor(settings: S3Settings, timers: Timers) {
    this.#settings = settings;
    this.#timers = timers;
    this.description = `s3 ${settings.bucket}${settings.prefix === "" ? "" : `/${settings.prefix}`}`;
    const base = new URL(settings.endpoint ?? `https://s3.${settings.region}.amazonaws.com`);
    if (!settings.pathStyle) base.hostname = `${settings.bucket}.${base.hostname}`;
    this.#base = base;
    const options = { keepAlive: true, maxSockets: 16, ...(settings.ca === null ? {} : { ca: settings.ca }) };
    this.#agent = base.protocol === "http:" ? new HttpAgent(options) : new HttpsAgent(options);
  }

  async put(key: string, parts: readonly Uint8Array[], how: PutOptions = {}): Promise<"stored" | "exists"> {
    const body = Buffer.concat(parts);
    checkKey(key);
    const headers: Record<string, string> = {
      "content-type": "application/octet-stream",
      "content-md5": createHash("md5").update(body).digest("base64"),
    };
    if (how.ifAbsent === true) {
      if (await this.#hasConditions()) headers["if-none-match"] = "*";
      else if ((await this.stat(key)) !== null) return "exists";
    }
    const answer = await this.#send({ method: "PUT", key, headers, body, signal: how.signal });
    if (answer.status === 412 || (answer.status === 409 && how.ifAbsent === true)) return "exists";
    this.#expect(answer, key, [200]);
    return "stored";
  }

  async get(key: string, signal?: AbortSignal): Promise<Buffer | null> {
    const answer = await this.#send({ method: "GET", key: checkKey(key), signal });
    if (isAbsent(answer)) return null;
    this.#expect(answer, key, [200]);
    return answer.body;
  }

  async getRange(key: string, offset: number, length: number, signal?: AbortSignal): Promise<Buffer | null> {
    const headers = { range: `bytes=${offset}-${offset + length - 1}` };
    const answer = await this.#send({ method: "GET", key: checkKey(key), headers, signal });
    if (isAbsent(answer)) return null;
    if (answer.status === 416) return Buffer.alloc(0);
    this.#expect(answer, key, [200, 206]);
    return answer.status === 206 ? answer.body : answer.body.subarray(offset, offset + length);
  }

  async *list(prefix: string): AsyncIterable<StoredObject> {
    const above = this.#settings.prefix === "" ? "" : `${this.#settings.prefix}/`;
    let token: string | null = null;
    do {
      const answer = await this.#send({
        method: "GET",
        key: "",
        query: {
          "list-type": "2",
          prefix: above + prefix,
          "max-keys": "1000",
          ...(token === null ? {} : { "continuation-token": token }),
        },
      });
      this.#expect(answer, prefix, [200]);
      const text = answer.body.toString("utf8");
      for (const [, entry = ""] of text.matchAll(/<Contents>(.*?)<\/Contents>/gs)) {
        const key = valueOf(entry, "Key");
        const bytes = Number(valueOf(entry, "Size"));
        if (key?.startsWith(above) === true && Number.isSafeInteger(bytes))
          yield { key: key.slice(above.length), bytes };
      }
      token = valueOf(text, "IsTruncated") === "true" ? valueOf(text, "NextContinuationToken") : null;
    } while (token !== null);
  }

  async stat(key: string): Promise<StoredObject | null> {
    const answer = await this.#send({ method: "HEAD", key: checkKey(key) });
    if (isAbsent(answer)) return null;
    this.#expect(answer, key, [200]);
    return { key, bytes: Number(answer.headers["content-length"] ?? 0) };
  }

  async delete(key: string): Promise<void> {
    const answer = await this.#send({ method: "DELETE", key: checkKey(key) });
    if (!isAbsent(answer)) this.#expect(answer, key, [200, 204]);
  }

  close(): Promise<void> {
    this.#agent.destroy();
    return Promise.resolve();
  }

  /** Whether the server keeps `If-None-Match`: found out once with an object of our own, as some take the header and ignore it. */
  #hasConditions(): Promise<boolean> {
    this.#conditional ??= this.#probe().catch((error: unknown) => {
      this.#conditional = null;
      throw error;
    });
    return this.#conditional;
  }

  async #probe(): Promise<boolean> {
    const key = "probe/conditional";
    const body = Buffer.from("pgherd\n");
    this.#expect(await this.#send({ method: "PUT", key, body }), key, [200]);
    const again = await this.#send({ method: "PUT", key, body, headers: { "if-none-match": "*" } });
    return again.status === 412;
  }

  #expect(answer: S3Answer, key: string, statuses: readonly number[]): void {
    if (statuses.includes(answer.status)) return;
    const text = answer.body.toString("utf8", 0, 2000);
    const code = valueOf(text, "Code");
    const full = code === "QuotaExceeded" || code === "XMinioStorageFull" || answer.status === 507;
    throw new Fault(
      full ? "BACKUP_STORE_FULL" : "BACKUP_STORE_FAILED",
      `${key === "" ? "The bucket" : key} in ${this.description}: ${code ?? `status ${answer.status}`}`,
      { detail: valueOf(text, "Message") ?? `HTTP status ${answer.status}` },
    );
  }

  async #send(call: S3Request): Promise<S3Answer> {
    for (let attempt = 1; ; attempt++) {
      try {
        const answer = await this.#once(call);
        if (answer.status < 500 && answer.status !== 429) return answer;
        if (attempt === attempts || answer.status === 507) return answer;
      } catch (error) {
        if (call.signal?.aborted === true) throw error;
        if (attempt === attempts)
          throw new Fault("BACKUP_STORE_UNREACHABLE", `${this.description} does not answer`, {
            detail: error instanceof Error ? error.message : String(error),
            cause: error,
          });
      }
      await this.#timers.sleep(firstPauseMs * 2 ** (attempt - 1), call.signal);
      call.signal?.throwIfAborted();
    }
  }

  async #once(call: S3Request): Promise<S3Answer> {
    const url = this.#url(call);
    const headers = await this.#sign(call, url);
    const limit = deadline(this.#timers, timeoutMs, call.signal);
    try {
      return await new Promise<S3Answer>((resolve, reject) => {
        const request = (url.protocol === "http:" ? httpRequest : httpsRequest)(
          url,
          { method: call.method, headers, agent: this.#agent, signal: limit.signal },
          (response) => receive(response, call.method === "HEAD", resolve, reject),
        );
        request.on("error", reject);
        request.end(call.body);
      });
    } finally {
      limit.clear();
    }
  }

  #url({ key, query }: S3Request): URL {
    const { bucket, prefix, pathStyle } = this.#settings;
    const parts = [pathStyle ? bucket : "", key === "" ? "" : prefix, key].filter((part) => part !== "");
    const url = new URL(this.#base);
    url.pathname = `/${parts.join("/")}`;
    for (const [name, value] of Object.entries(query ?? {})) url.searchParams.set(name, value);
    return url;
  }

  async #sign(call: S3Request, url: URL): Promise<Record<string, string>> {
    const { AwsV4Signer } = await import("aws4fetch");
    const { accessKeyId, secretAccessKey, sessionToken, region } = this.#settings;
    const signer = new AwsV4Signer({
      method: call.method,
      url: url.href,
      headers: { ...call.headers },
      ...(call.body === undefined ? {} : { body: new Uint8Array(call.body) }),
      accessKeyId,
      secretAccessKey,
      ...(sessionToken === null ? {} : { sessionToken }),
      service: "s3",
      region,
    });
    const signed = await signer.sign();
    const headers: Record<string, string> = {};
    signed.headers.forEach((value, name) => (headers[name] = value));
    headers["content-length"] = String(call.body?.length ?? 0);
    return headers;
  }
}

/** Not there; a bucket that is not there is a fault, not an empty one. */
function isAbsent(answer: S3Answer): boolean {
  return answer.status === 404 && valueOf(answer.body.toString("utf8", 0, 2000), "Code") !== "NoSuchBucket";
}

function receive(
  response: IncomingMessage,
  isHead: boolean,
  resolve: (answer: S3Answer) => void,
  reject: (error: Error) => void,
): void {
  const parts: Buffer[] = [];
  let bytes = 0;
  const announced = Number(response.headers["content-length"] ?? Number.NaN);
  const limit = Math.max(listLimit, 64 * 1_048_576);
  response.on("data", (part: Buffer) => {
    parts.push(part);
    bytes += part.length;
    if (bytes > limit) response.destroy(new Error("The answer is longer than any object"));
  });
  response.on("error", reject);
  response.on("aborted", () => reject(new Error("The answer was cut off")));
  response.on("end", () => {
    if (!isHead && Number.isFinite(announced) && announced !== bytes)
      reject(new Error("The answer was cut off"));
    else resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(parts) });
  });
}

/** The text of an element; keys of ours need no more XML than this. */
function valueOf(xml: string, name: string): string | null {
  const found = new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)?.[1];
  return found === undefined
    ? null
    : found
        .replaceAll("&quot;", '"')
        .replaceAll("&lt;", "<")
        .replaceAll("&gt;", ">")
        .replaceAll("&amp;", "&");
}
