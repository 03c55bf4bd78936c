import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import { Fault, type FaultReport } from "../values/fault.ts";
import { statusOf } from "./fault-status.ts";

/** The other end of a connection, as far as trust goes. */
export interface Remote {
  readonly address: string;
  readonly encrypted: boolean;
  /** Both ends are on this host: the connection crosses no network. */
  readonly sameHost: boolean;
  /** Its TLS certificate was signed by the configured authority. */
  readonly verifiedCertificate: boolean;
}

/** One request as the handlers see it. */
export interface ApiRequest {
  readonly method: string;
  /** Without query and without a slash at the end. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  readonly remote: Remote;
  /**
   * The body as JSON; undefined when there is none.
   * @throws Fault REQUEST_INVALID, REQUEST_TOO_LARGE
   */
  json(): Promise<unknown>;
}

/** What is sent back. stream: the handler takes over the response and ends it. */
export type ApiReply =
  | {
      readonly kind: "whole";
      readonly status: number;
      readonly contentType: string;
      readonly body: string;
      readonly headers?: Readonly<Record<string, string>>;
    }
  | { readonly kind: "stream"; readonly begin: (response: ServerResponse) => void };

export type WholeReply = Extract<ApiReply, { kind: "whole" }>;

/** The most a request's body may have. */
export const bodyLimitBytes = 1024 * 1024;

/** A reply in JSON. */
export function jsonReply(status: number, body: unknown): WholeReply {
  return { kind: "whole", status, contentType: "application/json", body: JSON.stringify(body) };
}

/** A reply in plain text. */
export function textReply(
  status: number,
  body: string,
  contentType = "text/plain; charset=utf-8",
): WholeReply {
  return { kind: "whole", status, contentType, body };
}

/** A fault as the API's own paths report it. */
export function faultReply(fault: Fault): WholeReply {
  return jsonReply(statusOf(fault.code), fault.report() satisfies FaultReport);
}

/** Makes the request of the handlers from node's. */
export function toApiRequest(incoming: IncomingMessage, verifiesClients: boolean): ApiRequest {
  const url = new URL(incoming.url ?? "/", "http://agent");
  const path =
    url.pathname.length > 1 && url.pathname.endsWith("/") ? url.pathname.slice(0, -1) : url.pathname;
  return {
    method: incoming.method ?? "GET",
    path,
    query: url.searchParams,
    headers: incoming.headers,
    remote: remoteOf(incoming, verifiesClients),
    json: () => readJson(incoming),
  };
}

function remoteOf(incoming: IncomingMessage, verifiesClients: boolean): Remote {
  const socket = incoming.socket as typeof incoming.socket & { encrypted?: boolean; authorized?: boolean };
  const address = plainAddress(socket.remoteAddress ?? "");
  const encrypted = socket.encrypted === true;
  return {
    address,
    encrypted,
    sameHost:
      address === "::1" ||
      address.startsWith("127.") ||
      address === plainAddress(socket.localAddress ?? "none"),
    verifiedCertificate: encrypted && verifiesClients && socket.authorized === true,
  };
}

/** An IPv4 address that came through an IPv6 socket, without its prefix. */
function plainAddress(address: string): string {
  return address.startsWith("::ffff:") ? address.slice("::ffff:".length) : address;
}

async function readJson(incoming: IncomingMessage): Promise<unknown> {
  if (Number(incoming.headers["content-length"] ?? 0) > bodyLimitBytes) throw tooLarge();
  const text = await readText(incoming);
  if (text.trim() === "") return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch (thrown) {
    throw new Fault("REQUEST_INVALID", "The body of the request is not JSON", {
      ...(thrown instanceof Error && { detail: thrown.message }),
      hint: "Send one JSON document, or nothing where a body is optional.",
    });
  }
}

/** Not by `for await`: leaving that early destroys the connection, and the refusal would not arrive. */
function readText(incoming: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    incoming.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size <= bodyLimitBytes) chunks.push(chunk);
      else {
        chunks.length = 0;
        reject(tooLarge());
      }
    });
    incoming.once("end", () => resolve(Buffer.concat(chunks).toString("utf8")));
    incoming.once("error", reject);
    incoming.once("close", () => reject(new Fault("REQUEST_INVALID", "The request ended in its middle")));
  });
}

function tooLarge(): Fault {
  return new Fault("REQUEST_TOO_LARGE", "The body of the request is too large", {
    detail: `At most ${bodyLimitBytes} bytes are read.`,
    hint: "Send less.",
  });
}
