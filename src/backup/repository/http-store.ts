import { Fault } from "../../values/fault.ts";
import { faultOf, type ServerAnswer, type ServerRequests } from "../server-requests.ts";
import { checkKey, type ObjectStore, type StoredObject } from "./object-store.ts";

/** Packs are some 32 MiB; the server sends no larger part at once. */
const mostObjectBytes = 256 << 20;
const mostFaultBytes = 1 << 16;

/**
 * A repository behind its backup server, read over HTTP: the objects come sealed as they are stored, so that an encrypted
 * repository needs the key here. Only what says that something is being read (`clusters/<cluster>/uses/`) can be written.
 */
export class HttpStore implements ObjectStore {
  readonly description: string;
  readonly #server: ServerRequests;

  constructor(server: ServerRequests) {
    this.#server = server;
    this.description = `backup server ${server.url}`;
  }

  async put(key: string, parts: readonly Uint8Array[]): Promise<"stored" | "exists"> {
    const body = Buffer.concat(parts);
    const path = pathOf(key);
    const answer = await this.#server.send({ method: "PUT", path, body, limitBytes: mostFaultBytes });
    if (answer.status >= 300) throw this.#fault(answer);
    return "stored";
  }

  async get(key: string, signal?: AbortSignal): Promise<Buffer | null> {
    const path = pathOf(key);
    const answer = await this.#server.send({ method: "GET", path, limitBytes: mostObjectBytes, signal });
    return this.#found(answer)?.body ?? null;
  }

  async getRange(key: string, offset: number, length: number, signal?: AbortSignal): Promise<Buffer | null> {
    if (length === 0) return (await this.stat(key)) === null ? null : Buffer.alloc(0);
    const answer = await this.#server.send({
      method: "GET",
      path: pathOf(key),
      headers: { range: `bytes=${offset}-${offset + length - 1}` },
      limitBytes: Math.max(length, mostFaultBytes),
      signal,
    });
    if (answer.status === 400) {
      const there = await this.stat(key);
      if (there === null) return null;
      // A part behind the end is empty, whatever the store is.
      if (offset >= there.bytes) return Buffer.alloc(0);
    }
    return this.#found(answer)?.body ?? null;
  }

  async *list(prefix: string): AsyncIterable<StoredObject> {
    const path = `/v1/objects?${new URLSearchParams({ prefix }).toString()}`;
    const answer = await this.#server.send({ method: "GET", path, limitBytes: mostObjectBytes });
    if (answer.status !== 200) throw this.#fault(answer);
    for (const line of answer.body.toString("utf8").split("\n")) {
      if (line === "") continue;
      const { key, bytes } = JSON.parse(line) as Readonly<Record<string, unknown>>;
      if (typeof key !== "string" || typeof bytes !== "number")
        throw new Fault(
          "BACKUP_STORE_FAILED",
          `What lists the objects of ${this.description} is none of ours`,
        );
      yield { key: checkKey(key), bytes };
    }
  }

  async stat(key: string): Promise<StoredObject | null> {
    const answer = await this.#server.send({ method: "HEAD", path: pathOf(key), limitBytes: mostFaultBytes });
    const found = this.#found(answer);
    return found === null ? null : { key, bytes: Number(found.headers["content-length"] ?? 0) };
  }

  async delete(key: string): Promise<void> {
    const answer = await this.#server.send({
      method: "DELETE",
      path: pathOf(key),
      limitBytes: mostFaultBytes,
    });
    if (answer.status >= 300 && answer.status !== 404) throw this.#fault(answer);
  }

  close(): Promise<void> {
    this.#server.close();
    return Promise.resolve();
  }

  #found(answer: ServerAnswer): ServerAnswer | null {
    if (answer.status === 404) return null;
    if (answer.status === 200 || answer.status === 206) return answer;
    throw this.#fault(answer);
  }

  #fault(answer: ServerAnswer): Fault {
    return faultOf(answer, this.#server.url);
  }
}

function pathOf(key: string): string {
  return `/v1/objects/${checkKey(key)}`;
}
