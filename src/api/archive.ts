import { request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import type { ArchivePort } from "../agent/archive-port.ts";
import type { ReceiverRecord } from "../cluster/records.ts";
import { deadline, type Timers } from "../system/timers.ts";
import { Fault, faultCatalogue, toFault, type FaultCode } from "../values/fault.ts";
import type { Secret } from "../values/secret.ts";

export interface ArchiveAccess {
  readonly cluster: string;
  readonly timers: Timers;
  /** The cluster's token; null while it is not known. */
  readonly token: () => Secret | null;
  /** Certificate authorities for https, in PEM; null = those of the system. */
  readonly authorities: () => Promise<string | null>;
}

/** For one segment, there and back; a repository may have to be asked over a network of its own. */
const exchangeMs = 30_000;
/** PostgreSQL's largest segment. */
const largestBytes = 1 << 30;

interface Reply {
  readonly status: number;
  readonly body: Buffer;
}

/** The WAL of backup servers by their HTTP API (src/backup/README.md). */
export function createArchive(access: ArchiveAccess): ArchivePort {
  const path = (name: string): string =>
    `/v1/clusters/${encodeURIComponent(access.cluster)}/wal/files/${encodeURIComponent(name)}`;
  return {
    fetch: async (receiver, name, signal) => {
      const reply = await exchange(access, receiver, {
        method: "GET",
        path: `${path(name)}?partial=true`,
        headers: {},
        body: null,
        signal,
      });
      if (reply.status === 200) return reply.body;
      const fault = faultOf(receiver, reply);
      if (fault.code === "BACKUP_WAL_UNKNOWN") return null;
      throw fault;
    },
    store: async (receiver, { name, bytes, token, node }, signal) => {
      const headers = {
        "content-type": "application/octet-stream",
        "content-length": String(bytes.length),
        "x-pgherd-source": node,
        ...(token !== null && { "x-pgherd-token": String(token) }),
      };
      const reply = await exchange(access, receiver, {
        method: "PUT",
        path: path(name),
        headers,
        body: bytes,
        signal,
      });
      if (reply.status !== 200) throw faultOf(receiver, reply);
    },
  };
}

interface Order {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer | null;
  readonly signal: AbortSignal;
}

/** @throws Fault API_UNREACHABLE */
async function exchange(access: ArchiveAccess, receiver: ReceiverRecord, order: Order): Promise<Reply> {
  const { apiUrl, name } = receiver;
  const secret = access.token();
  if (apiUrl === null || secret === null)
    throw new Fault("API_UNREACHABLE", `The backup server of ${name} cannot be asked`, {
      detail: apiUrl === null ? "It tells no address." : "This node does not know the cluster's token.",
    });
  const limit = deadline(access.timers, exchangeMs, order.signal);
  try {
    const authorities = await access.authorities();
    return await send(new URL(order.path, apiUrl), order, secret, authorities, limit.signal);
  } catch (thrown) {
    throw new Fault("API_UNREACHABLE", `The backup server of ${name} does not answer`, {
      detail: `${apiUrl}: ${limit.expired() ? `no answer within ${exchangeMs} ms` : toFault(thrown).message}`,
      hint: "Look at it: pgherd backup status.",
      cause: thrown,
    });
  } finally {
    limit.clear();
  }
}

function send(
  url: URL,
  { method, headers, body }: Order,
  secret: Secret,
  authorities: string | null,
  signal: AbortSignal,
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const secure = url.protocol === "https:";
    const outgoing = (secure ? httpsRequest : httpRequest)(
      url,
      {
        method,
        agent: false,
        signal,
        headers: { ...headers, authorization: `Bearer ${secret.reveal()}` },
        ...(secure && authorities !== null && { ca: authorities }),
      },
      (incoming) => {
        collect(incoming).then((bytes) => resolve({ status: incoming.statusCode ?? 0, body: bytes }), reject);
      },
    );
    outgoing.on("error", reject);
    outgoing.end(body ?? undefined);
  });
}

async function collect(incoming: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > largestBytes) throw new Error(`the answer is larger than ${largestBytes} bytes`);
    chunks.push(chunk);
  }
  const announced = incoming.headers["content-length"];
  if (!incoming.complete || (announced !== undefined && Number(announced) !== size))
    throw new Error("the answer was cut short");
  return Buffer.concat(chunks);
}

/** The fault a backup server answered with. */
function faultOf(receiver: ReceiverRecord, { status, body }: Reply): Fault {
  try {
    const told = JSON.parse(body.toString("utf8")) as Readonly<Record<string, unknown>>;
    const { code, message, detail } = told;
    if (typeof code === "string" && typeof message === "string" && Object.hasOwn(faultCatalogue, code))
      return new Fault(code as FaultCode, message, typeof detail === "string" ? { detail } : {});
  } catch {
    // Told below.
  }
  return new Fault("API_UNREACHABLE", `What answers for ${receiver.name} is no backup server`, {
    detail: `It answered with status ${status}.`,
  });
}
