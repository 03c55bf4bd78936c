import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { connect } from "node:net";
import type { Peers } from "../agent/peers.ts";
import type { Timers } from "../system/timers.ts";

/** Asks any PostgreSQL whether it speaks TLS: one byte comes back from a server that takes connections. */
const sslRequest = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]);

/** The other agents by their API, and their PostgreSQL by its first bytes. */
export function createPeers(timers: Timers): Peers {
  return {
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
