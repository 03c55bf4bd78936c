import { connect } from "node:net";
import type { RouterLine } from "../../cluster/status.ts";
import type { Timers } from "../../system/timers.ts";

const limitMs = 2_000;

/** The listeners of living routers that take no connection from this host, and why. */
export async function closedOf(
  routers: readonly RouterLine[],
  timers: Timers,
): Promise<ReadonlyMap<string, string>> {
  const tried = routers
    .filter((router) => router.state !== "unknown")
    .flatMap((router) =>
      router.listeners.map(async ({ name, address, port }) => {
        const why = await tryToConnect(address, port, timers);
        return [`${router.name} ${name} ${address}:${port}`, why] as const;
      }),
    );
  const found = await Promise.all(tried);
  return new Map(found.flatMap(([listener, why]) => (why === null ? [] : [[listener, why]])));
}

/** null = the connection was taken. */
function tryToConnect(host: string, port: number, timers: Timers): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const done = (why: string | null): void => {
      limit.cancel();
      socket.destroy();
      resolve(why);
    };
    const limit = timers.after(limitMs, () => done(`no answer within ${limitMs / 1000} s`));
    socket.on("connect", () => done(null));
    socket.on("error", (error) => done(error.message));
  });
}
