// Removes everything of a run: processes, namespaces, mounts, files. The only way a run is cleaned up, however it ended.
import { execFile } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { namespaceFile } from "./network.mjs";
import { killAll, processesOf, signal, startTicks } from "./processes.mjs";
import { thaw } from "./volumes.mjs";

const run = promisify(execFile);
const limit = { timeout: 20_000 };
const own = /^pgherd-fault-(\d+)-(\d+)(?:-|$)/;

/** What names this run: its process, so that a later run can tell whether it still lives. */
export const newTag = () => `${process.pid}-${startTicks(process.pid)}`;

/** Where a run keeps everything. */
export const runDir = (tag) => join(tmpdir(), `pgherd-fault-${tag}`);

/** The tags of runs that are gone and left something. */
export function abandoned() {
  const names = [tmpdir(), "/run/netns"].flatMap((dir) => (existsSync(dir) ? readdirSync(dir) : []));
  const tags = names.flatMap((name) => {
    const [, pid, ticks] = own.exec(name) ?? [];
    return pid === undefined || startTicks(Number(pid)) === Number(ticks) ? [] : [`${pid}-${ticks}`];
  });
  return [...new Set(tags)];
}

/** Removes what there is of a run. */
export async function sweep(tag) {
  const dir = runDir(tag);
  const hosts = hostsOf(tag);
  const mounts = mountsBelow(dir);
  // A frozen volume holds those who write to it in the kernel, where no signal reaches them.
  for (const place of mounts) await thaw(place);
  const processes = () =>
    hosts.flatMap((host) => processesOf(namespaceFile(tag, host))).filter((pid) => pid !== process.pid);
  for (const pid of processes()) signal(pid, "SIGSTOP"); // so that no supervisor starts anything again
  await killAll(processes);
  for (const place of mounts) await run("umount", [place], limit);
  for (const host of hosts) await run("ip", ["netns", "delete", `pgherd-fault-${tag}-${host}`], limit);
  rmSync(dir, { recursive: true, force: true, maxRetries: 3 });
}

function hostsOf(tag) {
  const prefix = `pgherd-fault-${tag}-`;
  const names = existsSync("/run/netns") ? readdirSync("/run/netns") : [];
  return names.filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length));
}

function mountsBelow(dir) {
  return readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[1] ?? "")
    .filter((place) => place.startsWith(`${dir}/`));
}
