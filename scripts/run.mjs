// Running programs, for the other scripts. Needs nothing but Node.
import { spawn } from "node:child_process";
import { realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The folder of the clone. */
export const root = fileURLToPath(new URL("..", import.meta.url)).replace(/\/$/, "");

/**
 * Runs a program to its end. `show`: its output goes to our stderr (stdout stays free for results); else it is kept.
 * @param {readonly string[]} argv
 * @param {{cwd?: string, env?: Record<string, string>, show?: boolean, inherit?: boolean, uid?: number, gid?: number, timeoutMs?: number}} [options]
 * @returns {Promise<{code: number, output: string, seconds: number}>}
 */
export function run(argv, options = {}) {
  const began = performance.now();
  const stdio = options.inherit ? "inherit" : options.show ? ["ignore", 2, 2] : ["ignore", "pipe", "pipe"];
  return new Promise((resolve) => {
    const child = spawn(argv[0], argv.slice(1), {
      cwd: options.cwd ?? root,
      env: { ...process.env, ...options.env },
      stdio,
      ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.gid }),
    });
    let output = "";
    let ended = false;
    const limit = setTimeout(() => child.kill("SIGKILL"), options.timeoutMs ?? 30 * 60_000);
    const passOn = (name) => child.kill(name);
    for (const name of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(name, passOn);
    const finish = (code, text) => {
      if (ended) return;
      ended = true;
      clearTimeout(limit);
      for (const name of ["SIGINT", "SIGTERM", "SIGHUP"]) process.off(name, passOn);
      resolve({ code, output: text, seconds: (performance.now() - began) / 1000 });
    };
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding("utf8").on("data", (chunk) => (output = (output + chunk).slice(-2_000_000)));
    child.once("error", (error) => finish(127, `${argv[0]}: ${error.message}\n`));
    child.once("close", (code, name) => finish(code ?? (name === "SIGKILL" ? 137 : 143), output));
  });
}

/** One line for the person who waits; on stderr. */
export function say(text) {
  process.stderr.write(`${text}\n`);
}

/** Whether this module is the program that was started. */
export function isProgram(moduleUrl) {
  return process.argv[1] !== undefined && fileURLToPath(moduleUrl) === realPath(process.argv[1]);
}

function realPath(path) {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}
