import type { RouterRecord } from "../cluster/records.ts";
import { encodeCancel } from "../pgwire/startup.ts";
import { deadline, type Timers } from "../system/timers.ts";
import { type CancelKey, routerNumber } from "./cancel.ts";
import { connectSocket } from "./net-socket.ts";

type SiblingRouter = Pick<RouterRecord, "name" | "host" | "listeners">;

/** How long the other router may take; it closes the connection when the request is through. */
const answerMs = 5_000;
/** Requests under way to other routers: more are dropped, as a request may be at any time. */
const mostAtOnce = 100;

/**
 * Hands requests on to the router whose client is meant: behind one address or name of several routers a request may come
 * to another one than the session.
 */
export class CancelRelay {
  readonly #routers: () => readonly SiblingRouter[];
  readonly #timers: Timers;
  #running = 0;

  /** @param routers those of the cluster as far as they are known */
  constructor(routers: () => readonly SiblingRouter[], timers: Timers) {
    this.#routers = routers;
    this.#timers = timers;
  }

  /** @param router the number in the key; @returns when the request is through, or nobody takes it. Never throws. */
  async pass(request: CancelKey, router: number): Promise<void> {
    const sibling = this.#routers().find(({ name }) => routerNumber(name) === router);
    const listener = sibling?.listeners.find(({ path }) => path === "session");
    if (sibling === undefined || listener === undefined || this.#running >= mostAtOnce) return;
    const everywhere = ["0.0.0.0", "::", "*"].includes(listener.address);
    const limit = deadline(this.#timers, answerMs);
    this.#running += 1;
    try {
      const target = { host: everywhere ? sibling.host : listener.address, port: listener.port };
      const socket = await connectSocket(target, limit.signal);
      await new Promise<void>((resolve) => {
        socket.onEnd = () => socket.destroy();
        socket.onClose = () => resolve();
        limit.signal.addEventListener("abort", () => socket.destroy(), { once: true });
        const packet = encodeCancel(request.pid, request.secret);
        socket.write(packet, 0, packet.length);
        socket.resume();
      });
    } catch {
      // A router that cannot be reached has no sessions whose statements could be cancelled.
    } finally {
      this.#running -= 1;
      limit.clear();
    }
  }
}
