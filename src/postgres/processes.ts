import { readdirSync, readFileSync, readlinkSync, realpathSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import type { Clock } from "../system/clock.ts";
import type { Timers } from "../system/timers.ts";
import { Fault } from "../values/fault.ts";
import { elapsedMs } from "../values/time.ts";

/** A process that cannot be mistaken for a later one under the same number. */
export interface ProcessIdentity {
  readonly pid: number;
  /** When it was started, in clock ticks since boot (field 22 of /proc/PID/stat). */
  readonly startTicks: number;
}

/** A living process as /proc shows it. */
export interface ProcessFacts extends ProcessIdentity {
  readonly parent: number;
}

/** What tells the processes of an instance when its data directory is not where it was any more: renamed, or replaced. */
export interface InstanceMarks {
  /** The postmaster as it was seen last. */
  readonly postmaster: ProcessIdentity | null;
  /** The directory its processes work in (directoryIdentity). */
  readonly directory: string | null;
}

/** What a postmaster says of itself in postmaster.pid. */
export interface PostmasterFile {
  readonly pid: number;
  readonly port: number | null;
  readonly socketDir: string | null;
  /** "starting", "stopping", "ready" or "standby"; null when not written yet. */
  readonly status: string | null;
}

// The calls below are synchronous on purpose: a look at all processes must be one instant (P3), and takes about 2 ms.

/** The process now under this number; null when there is none or it is dead and only not yet reaped. */
export function processFacts(pid: number): ProcessFacts | null {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return null;
  }
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const [state, parent] = fields;
  const startTicks = Number(fields[19]);
  if (state === undefined || state === "Z" || state === "X" || !Number.isFinite(startTicks)) return null;
  return { pid, parent: Number(parent), startTicks };
}

/** Whether this very process still lives. */
export function isAlive(identity: ProcessIdentity): boolean {
  return processFacts(identity.pid)?.startTicks === identity.startTicks;
}

/** The identity of this boot: process numbers and start times are comparable only within one. */
export function bootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
}

/** Whether a process is a PostgreSQL server process (of any version) that works in this data directory, deleted or not. */
export function worksIn(pid: number, dataDir: string): boolean {
  return serverDirectory(pid) === dataDir;
}

/**
 * Where a PostgreSQL server process works; null for every other process, and for one that is ending: it has lost its program and
 * its directory a moment before it is gone.
 */
export function serverDirectory(pid: number): string | null {
  try {
    const directory = readlinkSync(`/proc/${pid}/cwd`).replace(/ \(deleted\)$/, "");
    return basename(readlinkSync(`/proc/${pid}/exe`)).replace(" (deleted)", "") === "postgres"
      ? directory
      : null;
  } catch {
    return null;
  }
}

/** What tells a directory from one that takes its name, or later its inode; null when there is none. */
export function directoryIdentity(path: string): string | null {
  try {
    const { dev, ino, birthtimeNs } = statSync(path, { bigint: true });
    return `${dev}:${ino}:${birthtimeNs}`;
  } catch {
    return null;
  }
}

/** The same for a process of PostgreSQL by the directory itself, whatever name it has now. */
function worksInDirectory(pid: number, directory: string): boolean {
  try {
    if (basename(readlinkSync(`/proc/${pid}/exe`)).replace(" (deleted)", "") !== "postgres") return false;
  } catch {
    return false;
  }
  return directoryIdentity(`/proc/${pid}/cwd`) === directory;
}

/**
 * Every living process of the instance and every descendant of one (archive commands and the like): those that work in the
 * data directory, and those that the marks tell of.
 */
export function instanceProcesses(dataDir: string, marks?: InstanceMarks): readonly ProcessFacts[] {
  const real = realPath(dataDir);
  const pids = allPids();
  const directory = marks?.directory ?? null;
  const members = pids.filter(
    (pid) => worksIn(pid, real) || (directory !== null && worksInDirectory(pid, directory)),
  );
  const postmaster = marks?.postmaster ?? null;
  if (postmaster !== null && !members.includes(postmaster.pid) && isAlive(postmaster))
    members.push(postmaster.pid);
  if (members.length === 0) return [];
  const all = pids.map(processFacts).filter((facts) => facts !== null);
  const family = new Map(
    all.filter((facts) => members.includes(facts.pid)).map((facts) => [facts.pid, facts]),
  );
  for (let grown = true; grown;) {
    const children = all.filter((facts) => family.has(facts.parent) && !family.has(facts.pid));
    for (const child of children) family.set(child.pid, child);
    grown = children.length > 0;
  }
  return [...family.values()];
}

/** Programs (such as a pg_basebackup whose agent died) that still work on a path. */
export function programsWorkingOn(names: readonly string[], path: string): readonly ProcessIdentity[] {
  const found: ProcessIdentity[] = [];
  for (const pid of allPids()) {
    try {
      if (!names.includes(basename(readlinkSync(`/proc/${pid}/exe`)))) continue;
      if (!readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").includes(path)) continue;
    } catch {
      continue;
    }
    const facts = processFacts(pid);
    if (facts !== null) found.push(facts);
  }
  return found;
}

/** Reads postmaster.pid; null when there is none, or none of a postmaster. */
export function readPostmasterFile(dataDir: string): PostmasterFile | null {
  let lines: string[];
  try {
    lines = readFileSync(join(dataDir, "postmaster.pid"), "utf8").split("\n");
  } catch {
    return null;
  }
  const pid = Number(lines[0]);
  if (!Number.isSafeInteger(pid) || pid <= 0) return null; // a single-user server, which writes its number negated
  const port = Number(lines[3]);
  return {
    pid,
    port: Number.isSafeInteger(port) && port > 0 ? port : null,
    socketDir: lines[4] === undefined || lines[4] === "" ? null : lines[4],
    status: lines[7]?.trim() ?? null,
  };
}

/** The longest wait for the kernel to end killed processes: past it one is stuck in the disk (P3 is not reached). */
const killLimitMs = 10_000;

/**
 * P3: stops the forking (SIGSTOP for the postmaster), kills everything else and looks again until nothing else is left,
 * then the postmaster. Backends are process groups of their own and outlive their postmaster, so a group is never enough.
 * @returns the milliseconds until no process was left
 * @throws Fault POSTGRES_STOP_FAILED when a process does not die
 */
export async function killInstance(
  dataDir: string,
  clock: Clock,
  timers: Timers,
  marks?: InstanceMarks,
): Promise<number> {
  const started = clock.now();
  // A dying process has already lost its working directory, by which it is found, so that those seen are remembered.
  const seen = new Map<number, ProcessFacts>();
  for (;;) {
    for (const each of instanceProcesses(dataDir, marks)) seen.set(each.pid, each);
    const processes = [...seen.values()].filter(isAlive);
    const took = elapsedMs(started, clock.now());
    if (processes.length === 0) return took;
    if (took > killLimitMs)
      throw new Fault("POSTGRES_STOP_FAILED", "Processes of PostgreSQL do not die", {
        detail: `Left after SIGKILL: ${processes.map((each) => each.pid).join(", ")}.`,
        hint: "A process that waits for a hung disk cannot be killed: check the storage, or power the machine off.",
      });
    const numbers = new Set(processes.map((each) => each.pid));
    const roots = processes.filter((each) => !numbers.has(each.parent));
    const others = processes.filter((each) => numbers.has(each.parent));
    for (const root of roots) signalProcess(root, others.length > 0 ? "SIGSTOP" : "SIGKILL");
    for (const other of others) signalProcess(other, "SIGKILL");
    await timers.sleep(1);
  }
}

/** Sends a signal to this very process; false when it is gone. */
export function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): boolean {
  if (!isAlive(identity)) return false;
  try {
    process.kill(identity.pid, signal);
    return true;
  } catch {
    return false;
  }
}

/** The path with its links resolved: what /proc shows. */
export function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

/** The processes that this one could end: of the same user, for root everybody's. Asking others costs time when it counts. */
function allPids(): readonly number[] {
  const own = process.geteuid?.() ?? 0;
  return readdirSync("/proc")
    .filter((name) => name.charCodeAt(0) >= 0x31 && name.charCodeAt(0) <= 0x39)
    .filter((name) => own === 0 || statSync(`/proc/${name}`, { throwIfNoEntry: false })?.uid === own)
    .map(Number);
}
