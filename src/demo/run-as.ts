import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { chmod, chown, mkdir, readdir, writeFile } from "node:fs/promises";
import { delimiter } from "node:path";
import { Fault } from "../values/fault.ts";
import { readIfPresent } from "../postgres/durable-file.ts";
import type { RunAs } from "./demo-file.ts";

/**
 * As whom a demo runs: null = as the user who calls; root's runs as `postgres`, because PostgreSQL refuses root.
 * @throws Fault RUNS_AS_ROOT when there is no such user
 */
export function chooseRunAs(): RunAs | null {
  if (process.getuid?.() !== 0) return null;
  const line = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .find((entry) => entry.startsWith("postgres:"));
  const [, , uid, gid, , home] = line?.split(":") ?? [];
  if (uid === undefined || gid === undefined)
    throw new Fault("RUNS_AS_ROOT", "PostgreSQL refuses to run as root, and there is no user postgres.", {
      hint: "Install PostgreSQL's packages, which make that user, or run this as a normal user.",
    });
  return { user: "postgres", uid: Number(uid), gid: Number(gid), home: home ?? "/" };
}

/** The identity for spawn: nothing when it is the caller's own. */
export function spawnIdentity(runAs: RunAs | null): { uid?: number; gid?: number } {
  return runAs === null ? {} : { uid: runAs.uid, gid: runAs.gid };
}

/** A small environment of its own, so that nothing of the caller's (PGHERD_*, PG*) steers the demo's programs. */
export function cleanEnvironment(
  runAs: RunAs | null,
  env: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  const path = new Set([...(env["PATH"] ?? "").split(delimiter), "/usr/local/bin", "/usr/bin", "/bin"]);
  path.delete("");
  return {
    PATH: [...path].join(delimiter),
    HOME: runAs?.home ?? env["HOME"] ?? "/",
    USER: runAs?.user ?? env["USER"] ?? "",
    LANG: "C.UTF-8",
    ...(env["TZ"] === undefined ? {} : { TZ: env["TZ"] }),
  };
}

/** Makes a directory for the demo's user alone. */
export async function makeDirectory(path: string, runAs: RunAs | null): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  if (runAs !== null) await chown(path, runAs.uid, runAs.gid);
}

/** Writes a file that only the demo's user (and root) can read. */
export async function writePrivately(path: string, text: string, runAs: RunAs | null): Promise<void> {
  await writeFile(path, text, { mode: 0o600 });
  await chmod(path, 0o600);
  if (runAs !== null) await chown(path, runAs.uid, runAs.gid);
}

/** Whether the demo's user can do this with a path: `-r` read, `-w` write, `-x` run or enter. */
export function canUse(path: string, how: "-r" | "-w" | "-x", runAs: RunAs | null): Promise<boolean> {
  return new Promise((resolve) => {
    const options = { ...spawnIdentity(runAs), cwd: "/", timeout: 5_000 };
    execFile("/usr/bin/test", [how, path], options, (error) => resolve(error === null));
  });
}

/**
 * Makes the demo's own directory, or takes an empty one.
 * @throws Fault DATA_DIR_NOT_EMPTY, DATA_DIR_NOT_WRITABLE
 */
export async function claimDirectory(dir: string, runAs: RunAs | null): Promise<void> {
  const entries = await readdir(dir).catch(() => []);
  if (entries.length > 0)
    throw new Fault("DATA_DIR_NOT_EMPTY", `${dir} is not empty and holds no demo.`, {
      hint: "Name an empty or new directory with --dir.",
    });
  try {
    await mkdir(dir, { recursive: true, mode: 0o755 });
    await chmod(dir, 0o700);
    if (runAs !== null) await chown(dir, runAs.uid, runAs.gid);
  } catch (thrown) {
    throw new Fault("DATA_DIR_NOT_WRITABLE", `${dir} cannot be made ready.`, {
      detail: thrown instanceof Error ? thrown.message : String(thrown),
      hint: "Name another directory with --dir.",
      cause: thrown,
    });
  }
  if ((await canUse(dir, "-w", runAs)) && (await canUse(dir, "-x", runAs))) return;
  throw new Fault("DATA_DIR_NOT_WRITABLE", `The user ${runAs?.user ?? "who calls"} cannot reach ${dir}.`, {
    detail: "Every directory above it must let that user pass.",
    hint: "Name another directory with --dir, for example below /var/lib or /var/tmp.",
  });
}

/** The first program of this name on PATH; null = none. */
export async function findProgram(
  name: string,
  env: Readonly<Record<string, string | undefined>>,
  runAs: RunAs | null,
): Promise<string | null> {
  for (const dir of (cleanEnvironment(runAs, env)["PATH"] ?? "").split(delimiter))
    if (await canUse(`${dir}/${name}`, "-x", runAs)) return `${dir}/${name}`;
  return null;
}

/** The end of a log, for a message; empty when there is none. */
export async function logTail(path: string, lines: number): Promise<string> {
  const text = (await readIfPresent(path).catch(() => null)) ?? "";
  return text.trimEnd().split("\n").slice(-lines).join("\n").slice(-2_000);
}
