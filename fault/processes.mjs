// What the suite does to processes. A host's processes are those of its network namespace, whatever they are.
import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { basename } from "node:path";
import { sleep } from "../bench/processes.mjs";

const endWithinMs = 15_000;

/** When a process was started, in clock ticks since the boot: with its number it is one process only. Null = gone, or a zombie. */
export function startTicks(pid) {
  try {
    const fields = statFields(pid);
    return fields[0] === "Z" ? null : Number(fields[19]);
  } catch {
    return null;
  }
}

/** The fields of /proc/PID/stat from the state on. */
function statFields(pid) {
  return readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /s, "")
    .split(" ");
}

/** The numbers of the processes of a network namespace, by the file that names it; those that have ended do not count. */
export function processesOf(namespaceFile) {
  const inode = `net:[${statSync(namespaceFile).ino}]`;
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return readlinkSync(`/proc/${pid}/ns/net`) === inode && statFields(pid)[0] !== "Z";
      } catch {
        return false;
      }
    });
}

/** Sends a signal; nothing when the process is gone. @returns whether it was there */
export function signal(pid, name) {
  try {
    return process.kill(pid, name);
  } catch (error) {
    if (error.code === "ESRCH") return false;
    throw error;
  }
}

/** SIGKILL for what `list` finds, looking again until it finds nothing. @throws Error after 15 s, with what is left */
export async function killAll(list) {
  const began = performance.now();
  for (let left = list(); left.length > 0; left = list()) {
    for (const pid of left) signal(pid, "SIGKILL");
    if (performance.now() - began > endWithinMs)
      throw new Error(`processes do not end: ${left.map((pid) => `${pid} ${commandOf(pid)}`).join(", ")}`);
    await sleep(2);
  }
}

/** SIGSTOP for what `list` finds, until it finds nothing new: a process that forks meanwhile is caught too. */
export async function freezeAll(list) {
  const frozen = new Set();
  for (let found = list(); found.some((pid) => !frozen.has(pid)); found = list())
    for (const pid of found) if (signal(pid, "SIGSTOP")) frozen.add(pid);
}

/** SIGCONT, in an order that is another one each time: a host that wakes up runs everything at once. */
export function thawAll(pids) {
  const order = pids.map((pid) => ({ pid, at: Math.random() })).toSorted((a, b) => a.at - b.at);
  for (const { pid } of order) signal(pid, "SIGCONT");
}

function commandOf(pid) {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim().slice(0, 80);
  } catch {
    return "";
  }
}

/**
 * @typedef {object} Parts what runs for a database host; null or empty = does not
 * @property {number | null} supervisor
 * @property {number | null} agent
 * @property {number | null} guard
 * @property {number | null} postmaster
 * @property {number[]} postgres the postmaster and everything it started
 */

/** Sorts the processes of a database host by what they are. @returns {Parts} */
export function partsOf(pids) {
  const parts = { supervisor: null, agent: null, guard: null, postmaster: null, postgres: [] };
  const parents = new Map();
  for (const pid of pids) {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      const program = basename(readlinkSync(`/proc/${pid}/exe`));
      if (program === "postgres") {
        parts.postgres.push(pid);
        parents.set(pid, Number(statFields(pid)[1]));
      } else if (words.includes("guard")) parts.guard = pid;
      else if (words.includes("agent")) parts[words.includes("--supervised") ? "supervisor" : "agent"] = pid;
    } catch {
      // ended meanwhile
    }
  }
  parts.postmaster = parts.postgres.find((pid) => !parts.postgres.includes(parents.get(pid))) ?? null;
  return parts;
}
