import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, isAbsolute, join } from "node:path";

/** The part of the environment that says where a user's own files live. */
export type UserEnvironment = Readonly<Record<string, string | undefined>>;

/** Where a user's programs keep what should outlive a session (XDG base directories). */
function stateHome(env: UserEnvironment): string {
  const configured = env["XDG_STATE_HOME"];
  if (configured !== undefined && isAbsolute(configured)) return configured;
  const home = env["HOME"];
  return join(home !== undefined && isAbsolute(home) ? home : homedir(), ".local", "state");
}

/** The file that remembers the last demo of this user. */
export function pointerFile(env: UserEnvironment): string {
  return join(stateHome(env), "pgherd", "last-demo");
}

/**
 * Where a demo goes when nobody says where: root's runs as the user postgres and needs a place that user can reach.
 */
export function defaultDemoDir(env: UserEnvironment, root: boolean): string {
  return root ? "/var/lib/pgherd-demo" : join(stateHome(env), "pgherd", "demo");
}

/** The directory of the demo this user started last; null when there is none. */
export async function lastDemoDir(env: UserEnvironment): Promise<string | null> {
  const text = await readFile(pointerFile(env), "utf8").catch(() => "");
  const dir = text.trim();
  return isAbsolute(dir) ? dir : null;
}

/** Remembers a demo for commands that name none. */
export async function rememberDemoDir(env: UserEnvironment, dir: string): Promise<void> {
  await mkdir(dirname(pointerFile(env)), { recursive: true, mode: 0o700 });
  await writeFile(pointerFile(env), `${dir}\n`, { mode: 0o600 });
}

/** Forgets a demo that is gone, if it is the one remembered. */
export async function forgetDemoDir(env: UserEnvironment, dir: string): Promise<void> {
  if ((await lastDemoDir(env)) === dir) await rm(pointerFile(env), { force: true });
}
