// Compiles src/ to dist/, copies what is not TypeScript, and removes what no source stands behind any more.
//   node scripts/build.mjs
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative } from "node:path";
import { isProgram, root, run, say } from "./run.mjs";

const source = join(root, "src");
const target = join(root, "dist");
const stamp = join(target, ".built");
/** Files beside the sources that the running program does not need. */
const notShipped = /(\.test\.ts|\.contract\.ts|\.md)$/;

function filesBelow(dir) {
  if (!existsSync(dir)) return [];
  return readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
    const path = join(dir, entry.name);
    return entry.isDirectory() ? filesBelow(path) : [path];
  });
}

function foldersBelow(dir) {
  return [
    dir,
    ...readdirSync(dir, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .flatMap((entry) => foldersBelow(join(dir, entry.name))),
  ];
}

/** Whether a source, a folder of sources or a setting of the compiler is newer than the last build. */
export function buildIsStale() {
  if (!existsSync(stamp)) return true;
  const built = statSync(stamp).mtimeMs;
  const inputs = [...foldersBelow(source), ...filesBelow(source).filter((path) => !notShipped.test(path))];
  const settings = ["package.json", "package-lock.json", "tsconfig.json", "tsconfig.build.json"].map((name) =>
    join(root, name),
  );
  return [...inputs, ...settings].some((path) => statSync(path).mtimeMs > built);
}

/** Builds. @returns whether that worked; the compiler's words have been said */
export async function build() {
  const began = new Date();
  const compiled = await run([
    process.execPath,
    join(root, "node_modules/typescript/bin/tsc"),
    "-p",
    "tsconfig.build.json",
  ]);
  if (compiled.code !== 0) {
    say(compiled.output.trimEnd());
    say("The build failed.");
    return false;
  }
  const wanted = new Set([stamp]);
  for (const path of filesBelow(source).filter((name) => !notShipped.test(name))) {
    const out = join(target, relative(source, path).replace(/\.ts$/, ".js"));
    wanted.add(out);
    if (path.endsWith(".ts")) continue;
    mkdirSync(dirname(out), { recursive: true });
    copyFileSync(path, out);
  }
  for (const path of filesBelow(target)) if (!wanted.has(path)) rmSync(path);
  // The time of the start: a source saved while the compiler ran is newer than this build.
  writeFileSync(stamp, `${began.toISOString()}\n`);
  utimesSync(stamp, began, began);
  say(`  built in ${compiled.seconds.toFixed(1)} s`);
  return true;
}

if (isProgram(import.meta.url)) process.exitCode = (await build()) ? 0 : 1;
