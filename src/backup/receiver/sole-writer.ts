import { mkdir, stat } from "node:fs/promises";
import { createServer } from "node:net";
import type { Timers } from "../../system/timers.ts";
import { Fault } from "../../values/fault.ts";

/** A process that was killed a moment ago may still be ending. */
const patience = { tries: 50, everyMs: 100 };

/**
 * Makes the directory if need be, and this process the only one that receives WAL to it, until it ends in whatever way: the kernel
 * keeps the name of an abstract socket for as long. It holds on this machine; other ones that mount the directory do not see it.
 * @throws Fault BACKUP_WAL_IN_USE when another one does
 */
export async function becomeSoleWriter(directory: string, timers: Timers): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const { dev, ino } = await stat(directory);
  for (let tries = 1; !(await taken(`\0pgherd-live-${dev}-${ino}`)); tries += 1) {
    if (tries >= patience.tries)
      throw new Fault("BACKUP_WAL_IN_USE", "Another backup server receives WAL to the same directory.", {
        detail: `${directory} is written by another process of this machine.`,
        hint: "Two backup servers need a repository each; stop one of them. `ps -ef | grep backup-receiver` shows both.",
      });
    await timers.sleep(patience.everyMs);
  }
}

/** @returns whether the name is this process's now */
function taken(name: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EADDRINUSE") resolve(false);
      else reject(error);
    });
    server.listen({ path: name }, () => {
      server.unref();
      resolve(true);
    });
  });
}
