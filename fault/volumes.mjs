// A file system of its own for each database host: it can be filled and frozen.
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, rmSync, statfsSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const limit = { timeout: 60_000 };
/** Sparse: what is not written takes no room. */
const sizeBytes = 2 * 1024 ** 3;

/** Whether this machine can mount a file as a file system: else volumes are in memory and cannot be frozen. */
export const canLoop = () => existsSync("/dev/loop-control") && existsSync("/usr/sbin/fsfreeze");

/** Makes and mounts the volume of a host. @returns {Promise<string>} where */
export async function makeVolume(dir, host) {
  const place = join(dir, host);
  mkdirSync(place, { recursive: true });
  if (!canLoop()) {
    await run("mount", ["-t", "tmpfs", "-o", "size=1g,mode=755", "pgherd-fault", place], limit);
    return place;
  }
  const image = join(dir, `${host}.img`);
  writeFileSync(image, "");
  truncateSync(image, sizeBytes);
  await run("mkfs.ext4", ["-q", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1", image], limit);
  await run("mount", ["-o", "loop", image, place], limit);
  return place;
}

/** Takes all the room there is on a volume. */
export async function fill(place) {
  const file = join(place, "balloon");
  for (let turn = 0; turn < 20; turn += 1) {
    const { bavail, bsize } = statfsSync(place);
    if (bavail < 4) return;
    const part = join(place, `balloon-${turn}`);
    await run("fallocate", ["-l", String(bavail * bsize), part], limit).catch(() => undefined);
  }
  // The last blocks, which fallocate leaves for its own bookkeeping.
  await run("dd", ["if=/dev/zero", `of=${file}`, "bs=4k", "status=none"], limit).catch(() => undefined);
}

/** Gives the room back. */
export function empty(place) {
  rmSync(join(place, "balloon"), { force: true });
  for (let turn = 0; turn < 20; turn += 1) rmSync(join(place, `balloon-${turn}`), { force: true });
}

/** Nothing is written to the volume until it is thawed; who tries sleeps in the kernel. */
export const freeze = (place) => run("fsfreeze", ["-f", place], limit);

/** Harmless when it is not frozen. */
export const thaw = (place) => run("fsfreeze", ["-u", place], limit).catch(() => undefined);
