import { createServer, connect, type Server, type Socket } from "node:net";

/**
 * What a relay does with traffic. hold: nothing passes in either direction, connections stay open and new ones are
 * accepted (a black hole). hold-replies: requests pass, answers do not. refuse: nobody listens.
 */
export type RelayMode = "open" | "hold" | "hold-replies" | "refuse";

/** A TCP relay to break a network with. */
export interface Relay {
  readonly port: number;
  /** Changes the mode; back to "open" cuts what was held, as bytes in a black hole do not come back. */
  set(mode: RelayMode): Promise<void>;
  stop(): Promise<void>;
}

/** Where a relay listens, and whom its mode concerns. */
export interface RelayOptions {
  /** 127.0.0.1 when not given, or another address of the loopback network. */
  readonly host?: string;
  /** A free one when not given. */
  readonly port?: number;
  /** Connections it answers false for pass in every mode but refuse; asked again with every change of the mode. */
  readonly concerns?: (client: Socket) => boolean;
}

/** Starts a relay to a port of 127.0.0.1. */
export async function startRelay(targetPort: number, options: RelayOptions = {}): Promise<Relay> {
  const { host = "127.0.0.1", concerns = () => true } = options;
  const pairs = new Set<{ client: Socket; target: Socket }>();
  let mode: RelayMode = "open";
  const apply = (pair: { client: Socket; target: Socket }): void => {
    if (mode !== "open" && !concerns(pair.client)) return;
    if (mode === "hold") pair.client.unpipe(pair.target).pause();
    if (mode === "hold" || mode === "hold-replies") pair.target.unpipe(pair.client).pause();
  };
  const accept = (client: Socket): void => {
    const target = connect(targetPort, "127.0.0.1");
    const pair = { client, target };
    pairs.add(pair);
    const end = (): void => {
      pairs.delete(pair);
      client.destroy();
      target.destroy();
    };
    for (const socket of [client, target]) socket.setNoDelay(true).on("error", end).on("close", end);
    client.pipe(target);
    target.pipe(client);
    apply(pair);
  };
  const cut = (): void => {
    for (const { client } of [...pairs]) if (concerns(client)) client.destroy();
  };
  let server: Server = createServer(accept);
  const listen = (port: number): Promise<void> =>
    new Promise((resolve, reject) => {
      server = createServer(accept).once("error", reject);
      server.listen(port, host, resolve);
    });
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve());
      for (const { client } of [...pairs]) client.destroy();
    });
  await listen(options.port ?? 0);
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the relay has no port");
  const { port } = address;
  return {
    port,
    set: async (next) => {
      const previous = mode;
      mode = next;
      if (next === "open") cut();
      if (next === "refuse") await close();
      if (previous === "refuse" && next !== "refuse") await listen(port);
      for (const pair of pairs) apply(pair);
    },
    stop: async () => {
      if (mode !== "refuse") await close();
    },
  };
}
