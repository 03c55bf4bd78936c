import { createServer, type Server, type Socket } from "node:net";
import { Fault } from "../values/fault.ts";
import { serverOptions } from "./net-socket.ts";

/** An address that clients connect to. */
export interface ListenerSocket {
  readonly address: string;
  readonly port: number;
  /** The open file, for a process that goes on listening there; null = this Node does not tell. */
  readonly fd: number | null;
  /** Takes no new clients; those that are there stay. */
  close(): Promise<void>;
}

/** Connections the kernel keeps until they are accepted: a whole application comes back at once. The kernel has a bound too. */
const backlog = 4_096;

/**
 * Listens.
 * @param listen a host name or IP address; `*` = every address
 * @param fd a socket that listens there already
 * @param mostClients above it connections are dropped before anything is read: a last bound, far from the usual limits
 * @throws {Fault} PORT_OCCUPIED, CONFIG_INVALID
 */
export function openListener(
  { listen, port, fd }: { readonly listen: string; readonly port: number; readonly fd?: number | undefined },
  mostClients: number,
  accept: (socket: Socket) => void,
  failed: (error: Error) => void,
): Promise<ListenerSocket> {
  const server = createServer(serverOptions, accept);
  server.maxConnections = mostClients;
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => reject(openingFault(error, listen, port)));
    const where = fd === undefined ? { port, ...(listen === "*" ? {} : { host: listen }) } : { fd };
    server.listen({ ...where, backlog }, () => {
      server.removeAllListeners("error");
      server.on("error", failed);
      resolve(opened(server));
    });
  });
}

function opened(server: Server): ListenerSocket {
  const at = server.address();
  const { address, port } = at !== null && typeof at === "object" ? at : { address: "", port: 0 };
  return {
    address,
    port,
    fd: fdOf(server),
    close: () =>
      new Promise((resolve) => {
        // Its callback waits for the clients, which may stay for days.
        server.close();
        resolve();
      }),
  };
}

/** Node shows the number of an open file only inside. */
export function fdOf(server: Server): number | null {
  const { _handle: handle } = server as unknown as { _handle: { fd?: unknown } | null };
  return typeof handle?.fd === "number" && handle.fd >= 0 ? handle.fd : null;
}

function openingFault(error: NodeJS.ErrnoException, listen: string, port: number): Fault {
  if (error.code === "EADDRINUSE")
    return new Fault("PORT_OCCUPIED", `Port ${port} of ${listen} is in use.`, {
      hint: "End the other program, or give the listener another port.",
      cause: error,
    });
  return new Fault("CONFIG_INVALID", `The router cannot listen on ${listen}, port ${port}.`, {
    detail: error.message,
    cause: error,
  });
}
