import type { IncomingMessage, Server } from "node:http";
import type { Socket } from "node:net";

/** More connections than this that have asked nothing yet make the oldest of them go. */
export const silentLimit = 200;

/**
 * Keeps clients that connect and say nothing from taking every connection: the time limits alone would let a thousand of
 * them stop health checks for seconds.
 */
export function limitSilence(server: Server): void {
  const silent = new Map<string, Socket>();
  server.on("connection", (socket: Socket) => {
    const key = keyOf(socket);
    silent.set(key, socket);
    socket.once("close", () => silent.delete(key));
    if (silent.size <= silentLimit) return;
    const [oldest] = silent;
    if (oldest === undefined) return;
    silent.delete(oldest[0]);
    oldest[1].destroy();
  });
  server.on("request", (incoming: IncomingMessage) => silent.delete(keyOf(incoming.socket)));
}

/** The raw socket and the TLS socket on it have the same other end; an open connection has it alone. */
function keyOf(socket: Socket): string {
  return `${socket.remoteAddress ?? ""} ${socket.remotePort ?? 0}`;
}
