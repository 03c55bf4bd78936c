import type { IncomingMessage, ServerResponse } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { BackupService } from "../../backup/service.ts";
import { isArchivedBeside, isSegmentName, parseHistoryName } from "../../backup/wal/segment-name.ts";
import { parseGap } from "../../backup/wal/small-records.ts";
import { Fault, toFault } from "../../values/fault.ts";
import { parseTimeline, parseToken, type FencingToken, type Timeline } from "../../values/names.ts";
import { jsonReply, type ApiReply } from "../exchange.ts";
import { clusterIn, type BackupRequest, type BackupRoute } from "./route.ts";

/** PostgreSQL's largest segment. */
const mostSegmentBytes = 1 << 30;
/** A history file has a line for each timeline. */
const mostHistoryBytes = 1 << 20;
const mostGapBytes = 4_096;
/** What says that a backup is being read is some lines. */
const mostUseBytes = 16_384;
/** One answer carries at most so much of an object: packs are smaller. */
const mostObjectBytes = 256 << 20;

function bytesReply(status: number, bytes: Buffer, headers: Readonly<Record<string, string>> = {}): ApiReply {
  return {
    kind: "stream",
    begin: (response) => {
      response.writeHead(status, {
        "content-type": "application/octet-stream",
        "content-length": bytes.length,
        "cache-control": "no-store",
        ...headers,
      });
      response.end(bytes);
    },
  };
}

async function fetchWal(asked: BackupRequest): Promise<ApiReply> {
  const name = walName(asked);
  const { query } = asked.request;
  const towards = query.get("towards");
  const bytes = await clusterIn(asked).fetchWal(name, {
    partial: query.get("partial") === "true",
    towards: towards === null ? null : timelineIn(towards),
  });
  if (bytes !== null) return bytesReply(200, bytes);
  throw new Fault("BACKUP_WAL_UNKNOWN", `The archive has no ${name}`);
}

async function storeWal(asked: BackupRequest): Promise<ApiReply> {
  const name = walName(asked);
  const cluster = clusterIn(asked);
  const token = tokenIn(asked.request.headers["x-pgherd-token"]);
  const history = parseHistoryName(name);
  if (history !== null) {
    const text = (await bodyOf(asked.incoming, mostHistoryBytes)).toString("utf8");
    await cluster.storeHistory(history, text, token);
    return jsonReply(200, { outcome: "stored" });
  }
  const given = asked.request.headers["x-pgherd-source"];
  const source = `pushed by ${typeof given === "string" ? given.slice(0, 100) : asked.request.remote.address}`;
  const bytes = await bodyOf(asked.incoming, mostSegmentBytes);
  return jsonReply(200, { outcome: await cluster.storeWal({ name, bytes, token, source }) });
}

async function recordGap(asked: BackupRequest): Promise<ApiReply> {
  const cluster = clusterIn(asked);
  const bytes = await bodyOf(asked.incoming, mostGapBytes);
  try {
    const gap = parseGap(bytes, "the gap");
    await cluster.recordGap(gap);
  } catch (thrown) {
    const fault = toFault(thrown);
    if (fault.code !== "BACKUP_DAMAGED") throw fault;
    throw new Fault("REQUEST_INVALID", "The gap cannot be understood");
  }
  return jsonReply(200, {});
}

async function readObject({ service, request, names, incoming }: BackupRequest): Promise<ApiReply> {
  const key = names["key"] ?? "";
  const found = await service.store.stat(key);
  if (found === null) throw new Fault("NOT_FOUND", `The repository has no ${key}`);
  if (request.method === "HEAD") {
    const begin = (response: ServerResponse): void => {
      response.writeHead(200, { "content-length": found.bytes, "accept-ranges": "bytes" });
      response.end();
    };
    return { kind: "stream", begin };
  }
  const range = rangeIn(incoming.headers.range, found.bytes);
  const bytes =
    range === null
      ? await whole(service, key, found.bytes)
      : await service.store.getRange(key, range.offset, range.length);
  if (bytes === null) throw new Fault("NOT_FOUND", `The repository has no ${key}`);
  if (range === null) return bytesReply(200, bytes);
  const last = range.offset + bytes.length - 1;
  return bytesReply(206, bytes, { "content-range": `bytes ${range.offset}-${last}/${found.bytes}` });
}

function whole(service: BackupService, key: string, bytes: number): Promise<Buffer | null> {
  if (bytes > mostObjectBytes)
    throw new Fault("REQUEST_TOO_LARGE", "The object is too large to be sent whole", {
      hint: "Ask for parts of it with Range.",
    });
  return service.store.get(key);
}

/** A restore on another host says what it reads, so that retention leaves it alone. */
async function writeUse({ service, names, incoming }: BackupRequest): Promise<ApiReply> {
  const key = useKey(names);
  await service.store.put(key, [await bodyOf(incoming, mostUseBytes)]);
  return jsonReply(200, { outcome: "stored" });
}

async function deleteUse({ service, names }: BackupRequest): Promise<ApiReply> {
  await service.store.delete(useKey(names));
  return jsonReply(200, {});
}

/** @throws Fault REQUEST_INVALID for every other object: nobody writes to a repository but its server */
function useKey(names: Readonly<Record<string, string>>): string {
  const key = names["key"] ?? "";
  if (/^clusters\/[^/]+\/uses\/[0-9a-f-]{36}\.json$/.test(key)) return key;
  throw new Fault("REQUEST_INVALID", `${JSON.stringify(key.slice(0, 100))} cannot be written over HTTP`, {
    hint: "Only the notes of what is being read can: clusters/<cluster>/uses/<uuid>.json",
  });
}

function listObjects({ service, request }: BackupRequest): ApiReply {
  const prefix = request.query.get("prefix") ?? "";
  const lines = async function* (): AsyncGenerator<string> {
    for await (const { key, bytes } of service.store.list(prefix))
      yield `${JSON.stringify({ key, bytes })}\n`;
  };
  return {
    kind: "stream",
    begin: (response) => {
      response.writeHead(200, { "content-type": "application/x-ndjson", "cache-control": "no-store" });
      // Cut short where the store fails: who reads it sees no end.
      pipeline(Readable.from(lines()), response).catch(() => response.destroy());
    },
  };
}

/** Paths that carry bytes of the database: every one needs credentials. */
export const byteRoutes: readonly BackupRoute[] = [
  {
    method: "GET",
    path: "/v1/clusters/{cluster}/wal/files/{name}",
    summary:
      "A segment or history file; `?partial=true` also the received part of one, `?towards=` a timeline",
    guarded: true,
    handle: fetchWal,
  },
  {
    method: "PUT",
    path: "/v1/clusters/{cluster}/wal/files/{name}",
    summary: "Stores a segment or history file that archive_command brings; x-pgherd-token, x-pgherd-source",
    guarded: true,
    handle: storeWal,
  },
  {
    method: "POST",
    path: "/v1/clusters/{cluster}/wal/gaps",
    summary: "Records WAL that a server gave up before the archive had it; a base backup follows",
    guarded: true,
    handle: recordGap,
  },
  {
    method: "GET",
    path: "/v1/objects",
    summary: "The objects of the repository below `?prefix=`, a line of JSON each",
    guarded: true,
    handle: listObjects,
  },
  {
    method: "GET",
    path: "/v1/objects/{key...}",
    summary: "An object of the repository as it is stored, or a range of it",
    guarded: true,
    handle: readObject,
  },
  {
    method: "PUT",
    path: "/v1/objects/{key...}",
    summary: "Notes what is being read, below `clusters/<cluster>/uses/`: no other object can be written",
    guarded: true,
    handle: writeUse,
  },
  {
    method: "DELETE",
    path: "/v1/objects/{key...}",
    summary: "Forgets such a note",
    guarded: true,
    handle: deleteUse,
  },
];

/** The keys a cluster's token opens: what is the cluster's own, and what all share and only its own records lead to. */
export function opensFor(cluster: string, key: string): boolean {
  return key === "repository.json" || key.startsWith("packs/") || key.startsWith(`clusters/${cluster}/`);
}

function walName({ names }: BackupRequest): string {
  const name = names["name"] ?? "";
  if (isSegmentName(name) || parseHistoryName(name) !== null || isArchivedBeside(name)) return name;
  throw new Fault("REQUEST_INVALID", `${JSON.stringify(name.slice(0, 64))} is no name of a WAL file`);
}

function timelineIn(text: string): Timeline {
  const timeline = parseTimeline(Number(text));
  if (timeline === undefined) throw new Fault("REQUEST_INVALID", "towards is a timeline's number");
  return timeline;
}

function tokenIn(header: string | string[] | undefined): FencingToken | null {
  if (header === undefined) return null;
  const token = typeof header === "string" ? parseToken(Number(header)) : undefined;
  if (token === undefined) throw new Fault("REQUEST_INVALID", "x-pgherd-token is a fencing token");
  return token;
}

/** The part a client asks for; null = all of it. One range from its beginning on is understood. */
function rangeIn(
  header: string | undefined,
  bytes: number,
): { readonly offset: number; readonly length: number } | null {
  if (header === undefined) return null;
  const [, from = "", to = ""] = /^bytes=(\d+)-(\d*)$/.exec(header) ?? [];
  const offset = Number(from);
  const last = to === "" ? bytes - 1 : Math.min(Number(to), bytes - 1);
  if (from === "" || last < offset || last - offset >= mostObjectBytes)
    throw new Fault("REQUEST_INVALID", "This Range cannot be served");
  return { offset, length: last - offset + 1 };
}

async function bodyOf(incoming: IncomingMessage, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > limit) throw new Fault("REQUEST_TOO_LARGE", `At most ${limit} bytes are taken`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
