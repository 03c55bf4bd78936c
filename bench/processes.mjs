// What the measurements need of the operating system: programs, processes, free ports, waiting.
import { spawn } from "node:child_process";
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { createServer } from "node:net";

/** Milliseconds on a clock that all threads and processes of this machine share and that never steps. */
export const nowMs = () => Number(process.hrtime.bigint()) / 1e6;

/** Waits; ends at once, by an error, when the measurement is interrupted. */
export function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/**
 * Looks again and again until the answer is neither null nor undefined.
 * @template T
 * @param {string} what for the error
 * @param {{limitMs: number, everyMs?: number, signal?: AbortSignal}} bounds
 * @param {() => Promise<T | null | undefined> | T | null | undefined} look
 * @returns {Promise<T>}
 */
export async function waitFor(what, { limitMs, everyMs = 50, signal }, look) {
  const began = nowMs();
  for (;;) {
    const found = await look();
    if (found !== null && found !== undefined) return found;
    if (nowMs() - began > limitMs) throw new Error(`${what} did not come within ${limitMs / 1000} s`);
    await sleep(everyMs, signal);
  }
}

/**
 * Runs a program to its end and returns what it printed. It is ended when the measurement is interrupted.
 * `input`, `output`: descriptors to read from and to print to instead.
 */
export function capture(argv, { signal, env, limitMs = 240_000, onError, input, output: to } = {}) {
  return new Promise((resolve, reject) => {
    // A group of its own: Ctrl-C on the terminal reaches the measurement alone, which then ends what it started in order.
    const child = spawn(argv[0], argv.slice(1), {
      detached: true,
      stdio: [input ?? "ignore", to ?? "pipe", "pipe"],
      env: { ...process.env, ...env },
    });
    let output = "";
    let errors = "";
    const stop = () => child.kill("SIGTERM");
    const limit = setTimeout(() => child.kill("SIGKILL"), limitMs);
    signal?.addEventListener("abort", stop, { once: true });
    if (signal?.aborted) stop();
    child.stdout?.setEncoding("utf8").on("data", (text) => (output += text));
    child.stderr.setEncoding("utf8").on("data", (text) => {
      errors = (errors + text).slice(-4000);
      onError?.(text);
    });
    child.once("error", reject);
    child.once("close", (code) => {
      clearTimeout(limit);
      signal?.removeEventListener("abort", stop);
      if (signal?.aborted) reject(signal.reason);
      else if (code === 0) resolve(output);
      else reject(new Error(`${argv.join(" ")} ended with ${code}: ${(errors || output).trim()}`));
    });
  });
}

/** Starts a program that stays, as another user where one is given. Its output goes to a file. */
export async function launch(argv, { cwd, log, user, env }) {
  const file = openSync(log, "a");
  try {
    const child = spawn(argv[0], argv.slice(1), {
      cwd,
      detached: true,
      stdio: ["ignore", file, file],
      env: { PATH: process.env.PATH, LANG: "C.UTF-8", ...env },
      ...(user === undefined ? {} : { uid: user.uid, gid: user.gid }),
    });
    await new Promise((resolve, reject) => {
      child.once("spawn", resolve);
      child.once("error", reject);
    });
    child.unref();
    return child.pid;
  } finally {
    closeSync(file);
  }
}

/** The processes that work in a directory or below it. */
export function processesIn(dir) {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map(Number)
    .filter((pid) => {
      try {
        const cwd = readlinkSync(`/proc/${pid}/cwd`).replace(/ \(deleted\)$/, "");
        return cwd === dir || cwd.startsWith(`${dir}/`);
      } catch {
        return false;
      }
    });
}

/** SIGKILL for a process that may be gone already. */
export function kill(pid) {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if (error.code !== "ESRCH") throw error;
  }
}

/** SIGKILL for everything that works in a directory, until nothing is left. */
export async function killAllIn(dir) {
  await waitFor(`the end of the processes in ${dir}`, { limitMs: 10_000, everyMs: 2 }, () => {
    const left = processesIn(dir);
    for (const pid of left) kill(pid);
    return left.length === 0 ? true : null;
  });
}

/** A process's CPU time so far and its resident memory, or null when it is gone. */
export function usage(pid) {
  try {
    const fields = statFields(pid);
    if (fields === null) return null;
    const resident = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
    // User and system time in clock ticks, of which Linux shows 100 a second.
    return { cpuMs: (Number(fields[11]) + Number(fields[12])) * 10, residentKb: Number(resident?.[1] ?? 0) };
  } catch {
    return null;
  }
}

/**
 * What a process and all its descendants have used: CPU time in ms, children that have ended and been waited for
 * included, and their memory in kB, with shared pages divided among those that share them.
 */
export function familyUsage(root) {
  const parents = new Map();
  for (const name of readdirSync("/proc").filter((each) => /^\d+$/.test(each))) {
    const fields = statFields(Number(name));
    if (fields !== null) parents.set(Number(name), Number(fields[1]));
  }
  const family = [root];
  for (const member of family) for (const [pid, parent] of parents) if (parent === member) family.push(pid);
  let cpuMs = 0;
  let memoryKb = 0;
  for (const pid of family) {
    const fields = statFields(pid);
    if (fields === null) continue;
    cpuMs += fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks) * 10, 0);
    memoryKb += proportionalKb(pid);
  }
  return { cpuMs, memoryKb };
}

/** The fields of /proc/PID/stat behind the name, the state first; null when there is no such process. */
function statFields(pid) {
  try {
    return readFileSync(`/proc/${pid}/stat`, "latin1")
      .replace(/^.*\) /s, "")
      .split(" ");
  } catch {
    return null;
  }
}

function proportionalKb(pid) {
  try {
    return Number(/^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

/** Ports that are free now, all different. */
export async function freePorts(count) {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise((resolve, reject) => {
          const server = createServer();
          server.once("error", reject);
          server.listen(0, "127.0.0.1", () => resolve(server));
        }),
    ),
  );
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
