import { closeSync } from "node:fs";
import type { Timers } from "../system/timers.ts";
import type { CancelKey } from "./cancel.ts";

// A router that takes the place of one that still runs: the new process is a child of the old one, gets its listening sockets as
// open files, and talks to it over the channel Node gives a child.

/** In the environment of the new process: which of its open files listens where. */
export const inheritanceVariable = "PGHERD_ROUTER_SOCKETS";
/** The first open file behind standard input, output, error and the channel. */
const firstInheritedFd = 4;

/** A socket that listens, by the words of the router's file. */
export interface ListeningAt {
  readonly listen: string;
  readonly port: number;
}

/** What the new process tells the old one. */
export type FromSuccessor =
  /** Its listeners are open. */
  | { readonly kind: "serving" }
  /** A request to cancel that may be meant for a client of the old process. */
  | { readonly kind: "cancel"; readonly id: number; readonly pid: number; readonly secret: string };

/** What the old process tells the new one. */
export type FromPredecessor =
  /** It listens no more, and keeps neither the router's record nor its addresses. */
  | { readonly kind: "yours"; readonly vipRouterId: string }
  | { readonly kind: "cancelled"; readonly id: number };

/** How long the old process may take over a request to cancel. */
const cancelMs = 5_000;

/** What a router got from the one before it. */
export class Inheritance {
  readonly #timers: Timers;
  readonly #fds: Map<string, number>;
  readonly #waiting = new Map<number, () => void>();
  #id = 0;
  #yours: ((vipRouterId: string | null) => void) | null = null;

  private constructor(timers: Timers, fds: Map<string, number>) {
    this.#timers = timers;
    this.#fds = fds;
    // It must not keep this process from ending.
    process.channel?.unref();
    process.on("message", (message: FromPredecessor) => {
      if (message.kind === "yours") this.#yours?.(message.vipRouterId);
      else this.#waiting.get(message.id)?.();
    });
    // An old process that dies half way has left everything.
    process.once("disconnect", () => {
      this.#yours?.(null);
      for (const done of this.#waiting.values()) done();
    });
  }

  /** @returns null = there was no router before, as usual */
  static take(environment: NodeJS.ProcessEnv, timers: Timers): Inheritance | null {
    const text = environment[inheritanceVariable];
    // Not for the programs this process starts.
    Reflect.deleteProperty(environment, inheritanceVariable);
    if (text === undefined) return null;
    const sockets = JSON.parse(text) as readonly ListeningAt[];
    return new Inheritance(
      timers,
      new Map(sockets.map((at, index) => [keyOf(at), firstInheritedFd + index])),
    );
  }

  /** The open file of a socket that listens there already; once. */
  takeFd(at: ListeningAt): number | undefined {
    const fd = this.#fds.get(keyOf(at));
    this.#fds.delete(keyOf(at));
    return fd;
  }

  /** Says that the listeners are open; sockets that nobody took are closed. @returns what the old process leaves; null = it died */
  async serving(): Promise<string | null> {
    for (const fd of this.#fds.values()) closeSync(fd);
    this.#fds.clear();
    const yours = new Promise<string | null>((resolve) => (this.#yours = resolve));
    if (!this.#send({ kind: "serving" })) return null;
    return yours;
  }

  /** Asks the old process to cancel what a client of its own runs. @returns when the request is through */
  async cancel(key: CancelKey): Promise<void> {
    const id = (this.#id += 1);
    if (!this.#send({ kind: "cancel", id, pid: key.pid, secret: key.secret.toString("hex") })) return;
    await new Promise<void>((resolve) => {
      const timer = this.#timers.after(cancelMs, resolve);
      this.#waiting.set(id, () => {
        timer.cancel();
        resolve();
      });
    });
    this.#waiting.delete(id);
  }

  #send(message: FromSuccessor): boolean {
    if (!process.connected) return false;
    process.send?.(message, undefined, undefined, () => undefined);
    return true;
  }
}

function keyOf({ listen, port }: ListeningAt): string {
  return `${listen} ${port}`;
}
