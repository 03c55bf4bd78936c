import { spawn, type ChildProcess } from "node:child_process";
import type { Timers } from "../system/timers.ts";
import { Fault } from "../values/fault.ts";
import type { CancelKey } from "./cancel.ts";
import {
  inheritanceVariable,
  type FromPredecessor,
  type FromSuccessor,
  type ListeningAt,
} from "./inheritance.ts";

/** A socket of this process that listens. */
export interface ListeningSocket extends ListeningAt {
  readonly fd: number;
}

export interface SuccessorOptions {
  /** Starts a router with the same file; what stands on the disk now, so a newer version where one was installed. */
  readonly command: readonly string[];
  readonly sockets: readonly ListeningSocket[];
  /** A request to cancel that the new process knows nothing of. */
  readonly onCancel: (key: CancelKey) => Promise<void>;
  readonly timers: Timers;
}

/** The new process may take this long to read the cluster and open its listeners. */
const servingMs = 60_000;

/** A router process that takes this one's place. */
export class Successor {
  readonly #child: ChildProcess;
  readonly #onCancel: SuccessorOptions["onCancel"];

  private constructor(child: ChildProcess, onCancel: SuccessorOptions["onCancel"]) {
    this.#child = child;
    this.#onCancel = onCancel;
  }

  /**
   * Starts it with the listening sockets, and waits until it takes clients.
   * @throws {Fault} UPGRADE_FAILED: it ended, or was not ready in time; nothing has changed
   */
  static async start({ command, sockets, onCancel, timers }: SuccessorOptions): Promise<Successor> {
    const [program = "", ...args] = command;
    const at = sockets.map(({ listen, port }): ListeningAt => ({ listen, port }));
    const child = spawn(program, args, {
      stdio: ["ignore", "inherit", "inherit", "ipc", ...sockets.map(({ fd }) => fd)],
      env: { ...process.env, [inheritanceVariable]: JSON.stringify(at) },
      // A group of its own: a signal meant for this process alone must not end both.
      detached: true,
    });
    const successor = new Successor(child, onCancel);
    await new Promise<void>((resolve, reject) => {
      const fail = (why: string): void => {
        timer.cancel();
        child.kill("SIGKILL");
        reject(
          new Fault("UPGRADE_FAILED", "The new router process did not start; this one goes on.", {
            detail: why,
            hint: "What it said stands in the log before this.",
          }),
        );
      };
      const timer = timers.after(servingMs, () => fail(`it was not ready within ${servingMs / 1000} s`));
      child.once("error", (error) => fail(error.message));
      child.once("exit", (code, signal) => fail(`it ended with ${signal ?? `code ${code}`}`));
      child.on("message", (message: FromSuccessor) => {
        if (message.kind === "cancel") void successor.#cancel(message);
        else {
          timer.cancel();
          child.removeAllListeners("exit");
          resolve();
        }
      });
    });
    child.unref();
    child.channel?.unref();
    return successor;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** This process has left everything but its sessions. */
  leave(vipRouterId: string): void {
    this.#send({ kind: "yours", vipRouterId });
  }

  async #cancel({ id, pid, secret }: Extract<FromSuccessor, { kind: "cancel" }>): Promise<void> {
    await this.#onCancel({ pid, secret: Buffer.from(secret, "hex") });
    this.#send({ kind: "cancelled", id });
  }

  #send(message: FromPredecessor): void {
    if (this.#child.connected) this.#child.send(message, () => undefined);
  }
}
