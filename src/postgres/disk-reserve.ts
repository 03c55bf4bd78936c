import { rename } from "node:fs/promises";
import { dirname } from "node:path";
import type { Timers } from "../system/timers.ts";
import { Fault } from "../values/fault.ts";
import { runProgram } from "./programs.ts";

/** Writing it block by block, where the file system cannot set blocks aside. */
const writeLimitMs = 120_000;
const shortLimitMs = 5_000;
const megabyte = 1_048_576;

/**
 * Makes the reserve: a file whose blocks are taken, so that removing it makes room.
 * @throws Fault PROGRAM_FAILED, PROGRAM_TIMEOUT, BINARIES_MISSING
 */
export async function makeReserve(file: string, bytes: number, timers: Timers): Promise<void> {
  const temporary = `${file}.new`;
  const set = await runProgram("fallocate", ["-l", String(bytes), temporary], {
    timers,
    timeoutMs: shortLimitMs,
  }).catch(() => null);
  if (set?.code !== 0) {
    // Random, because file systems that compress would set nothing aside for zeros.
    const count = Math.max(1, Math.round(bytes / megabyte));
    const args = ["if=/dev/urandom", `of=${temporary}`, "bs=1048576", `count=${count}`, "conv=fsync"];
    const written = await runProgram("dd", args, { timers, timeoutMs: writeLimitMs });
    if (written.code !== 0) {
      await freeReserve(temporary, timers);
      throw new Fault("PROGRAM_FAILED", "The reserve on the disk could not be made", {
        detail: written.stderr,
      });
    }
  }
  await rename(temporary, file);
}

/**
 * Removes the reserve, and flushes: a file system with a journal gives blocks to others only after the removal is written.
 * @throws Fault PROGRAM_FAILED, PROGRAM_TIMEOUT
 */
export async function freeReserve(file: string, timers: Timers): Promise<void> {
  const removed = await runProgram("rm", ["-f", file], { timers, timeoutMs: shortLimitMs });
  if (removed.code !== 0)
    throw new Fault("PROGRAM_FAILED", "The reserve on the disk could not be removed", {
      detail: removed.stderr,
    });
  await runProgram("sync", ["-f", dirname(file)], { timers, timeoutMs: shortLimitMs });
}
