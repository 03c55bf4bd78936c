import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { connect } from "node:net";
import type { Peers } from "../agent/peers.ts";
import type { Timers } from "../system/timers.ts";
import { toFault } from "../values/fault.ts";
import type { Secret } from "../values/secret.ts";
import { askOnce } from "./client-request.ts";

/** Asks any PostgreSQL whether it speaks TLS: one byte comes back from a server that takes connections. */
const sslRequest = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]);

/** What is sent with a request that asks for more than a sign of life. */
export interface PeerAccess {
  /** The cluster's token; null while it is not known. */
  readonly token: () => Secret | null;
  /** Certificate authorities for https, in PEM; null = those of the system. */
  readonly authorities: () => Promise<string | null>;
}

/** The other agents by their API, and their PostgreSQL by its first bytes. */
export function createPeers(timers: Timers, access: PeerAccess): Peers {
  return {
    grant: async (node, { holder, token, holdMs }, limitMs) => {
      const timeoutMs = Math.ceil(limitMs);
      const secret = access.token();
      if (secret === null) return "this node does not know the cluster's token";
      try {
        const answer = await askOnce(node.apiUrl, {
          method: "POST",
          path: "/v1/grant",
          body: JSON.stringify({ holder, token, hold_ms: Math.round(holdMs) }),
          token: secret,
          authorities: await access.authorities(),
          connectMs: timeoutMs,
          timeoutMs,
        });
        if (answer.kind === "silent") return answer.reason;
        // An address may have changed hands: only the very node's word counts.
        const given = answer.body as { readonly node_id?: unknown; readonly token?: unknown } | null;
        return given?.node_id === node.nodeId && given.token === token ? null : "another agent answered";
      } catch (thrown) {
        const { message, detail } = toFault(thrown);
        return detail === null ? message : `${message} (${detail})`;
      }
    },
    pulse: async (node, timeoutMs) => {
      const status = await statusOf(timers, `${node.apiUrl}/health`, timeoutMs);
      return status === null ? null : { node: node.name, postgres: status === 200 };
    },
    answersPostgres: (node, timeoutMs) =>
      new Promise((resolve) => {
        const socket = connect({ host: node.host, port: node.port });
        const done = (answered: boolean): void => {
          limit.cancel();
          socket.destroy();
          resolve(answered);
        };
        const limit = timers.after(timeoutMs, () => done(false));
        socket.on("connect", () => socket.write(sslRequest));
        socket.on("data", () => done(true));
        socket.on("error", () => done(false));
        socket.on("close", () => done(false));
      }),
  };
}

/** The status of an answer; null = silent. Nothing secret is sent and only life is asked for: no certificate is checked. */
function statusOf(timers: Timers, url: string, timeoutMs: number): Promise<number | null> {
  return new Promise((resolve) => {
    const options = { agent: false, timeout: timeoutMs, rejectUnauthorized: false };
    const send = url.startsWith("https:") ? httpsRequest : httpRequest;
    const request = send(url, options, (response) => {
      response.resume();
      done(response.statusCode ?? null);
    });
    const done = (status: number | null): void => {
      limit.cancel();
      request.destroy();
      resolve(status);
    };
    const limit = timers.after(timeoutMs, () => done(null));
    request.on("error", () => done(null));
    request.end();
  });
}
