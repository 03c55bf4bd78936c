import { createConnection } from "node:net";
import { join } from "node:path";
import type { Timers } from "../system/timers.ts";
import { elapsedMs, type Instant } from "../values/time.ts";
import type { Installation } from "./options.ts";
import { readPostmasterFile } from "./processes.ts";

/** The request for TLS: the shortest question a postmaster answers, with one byte, before anybody logs in. */
const sslRequest = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]);
const everyMs = 2_500;
const limitMs = 1_000;

/**
 * Knocks at the server's door from time to time: whether the postmaster still lets new sessions in. A session that is open
 * already cannot tell: it goes on although the postmaster hangs. The server forks for each knock and logs nothing, unless
 * log_connections is on.
 */
export class Knocker {
  readonly #at: Installation;
  #pid: number | null = null;
  #knockedAt: Instant | null = null;
  #knocking = false;
  #open = true;

  constructor(at: Installation) {
    this.#at = at;
  }

  /** Whether the postmaster with this number opened when it was asked last; asks again when that is due. Never waits. */
  opens(pid: number): boolean {
    const now = this.#at.clock.now();
    if (pid !== this.#pid) {
      this.#pid = pid;
      this.#open = true;
      this.#knockedAt = now;
    }
    if (!this.#knocking && (this.#knockedAt === null || elapsedMs(this.#knockedAt, now) >= everyMs)) {
      this.#knockedAt = now;
      this.#knocking = true;
      void knock(socketOf(this.#at), this.#at.timers).then((open) => {
        this.#knocking = false;
        if (this.#pid === pid) this.#open = open;
      });
    }
    return this.#open;
  }
}

function socketOf(at: Installation): string {
  const running = readPostmasterFile(at.dataDir);
  return join(running?.socketDir ?? at.socketDir, `.s.PGSQL.${running?.port ?? at.port}`);
}

/** One knock at a unix socket. @returns whether anything was answered within a second */
function knock(socketPath: string, timers: Timers): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(socketPath);
    const end = (open: boolean): void => {
      timer.cancel();
      socket.destroy();
      resolve(open);
    };
    const timer = timers.after(limitMs, () => end(false));
    socket.once("connect", () => socket.write(sslRequest));
    socket.once("data", () => end(true));
    socket.once("error", () => end(false));
    socket.once("close", () => end(false));
  });
}
