import { execFile } from "node:child_process";
import { cp, mkdir, readFile, realpath, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { readIfPresent } from "../postgres/durable-file.ts";
import { Fault } from "../values/fault.ts";
import type { DemoProgram, RunAs } from "./demo-file.ts";
import { canUse } from "./run-as.ts";

const run = promisify(execFile);

/** What npm writes about installed packages, as far as it matters here. */
interface InstalledPackages {
  readonly packages: Readonly<Record<string, { readonly dev?: boolean; readonly devOptional?: boolean }>>;
}

/** The package this program runs from: the folder with bin/, dist/ and node_modules/. */
const ownPackage = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");

/**
 * The program the demo's agents run. A demo of another user gets a copy of the build and of the packages it needs in
 * `DIR/app`: that user may not be able to read the place this program stands in (or its Node).
 * @throws Fault BINARIES_MISSING when the program is not built
 */
export async function installProgram(dir: string, runAs: RunAs | null): Promise<DemoProgram> {
  const node = await realpath(process.execPath);
  const build = await ownBuild();
  if (runAs === null) return { node, script: join(ownPackage, "bin/pgherd"), build };
  const app = join(dir, "app");
  if (ownPackage !== (await realpath(app).catch(() => app))) await copyPackage(app);
  await run("chown", ["-R", `${runAs.uid}:${runAs.gid}`, app], { timeout: 60_000 });
  const script = join(app, "bin/pgherd");
  if (await canUse(node, "-x", runAs)) return { node, script, build };
  await cp(node, join(app, "node"));
  return { node: join(app, "node"), script, build };
}

/** Which build this program is of: the build writes its time beside the code. */
export async function ownBuild(): Promise<string> {
  return ((await readIfPresent(join(ownPackage, "dist/.built"))) ?? "").trim();
}

async function copyPackage(app: string): Promise<void> {
  await rm(app, { recursive: true, force: true });
  await mkdir(join(app, "node_modules"), { recursive: true });
  try {
    for (const name of ["bin", "dist", "package.json"])
      await cp(join(ownPackage, name), join(app, name), { recursive: true });
    for (const path of await runtimePackages())
      await cp(join(ownPackage, path), join(app, path), { recursive: true, dereference: true });
  } catch (thrown) {
    throw new Fault("BINARIES_MISSING", "The built program cannot be copied.", {
      detail: thrown instanceof Error ? thrown.message : String(thrown),
      hint: `Run \`npm ci && npm run build\` in ${ownPackage}.`,
      cause: thrown,
    });
  }
}

/** Folders below node_modules that the running program needs, without those nested in another of the list. */
async function runtimePackages(): Promise<readonly string[]> {
  const text = await readFile(join(ownPackage, "node_modules/.package-lock.json"), "utf8");
  const { packages } = JSON.parse(text) as InstalledPackages;
  const wanted = Object.entries(packages)
    .filter(([, entry]) => entry.dev !== true && entry.devOptional !== true)
    .map(([path]) => path);
  return wanted.filter((path) => !wanted.some((other) => path.startsWith(`${other}/`)));
}
