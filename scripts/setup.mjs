// Brings this machine and this clone to the state in which pgherd runs: Debian packages, npm packages, the build.
// Does only what is missing, says what it does, and may be run any number of times. Needs nothing but Node.
//   node scripts/setup.mjs [--tests]
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { build as buildProgram, buildIsStale } from "./build.mjs";
import { requirements } from "./requirements.mjs";
import { isProgram, root, run, say } from "./run.mjs";

/** @returns whether everything is there now; what is missing has been said */
export async function setUp({ tests, hosts = false, peers = [], machine = true, build = true }) {
  if (!nodeIsNewEnough()) return false;
  if (machine && !(await setUpMachine({ tests, hosts, peers }))) return false;
  return (await setUpPackages()) && (!build || (await setUpBuild()));
}

function nodeIsNewEnough() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return true;
  say(`Node 20.19 or newer is needed; this is ${process.version} (${process.execPath}).`);
  return false;
}

async function setUpMachine(needs) {
  const missing = requirements(needs).filter((requirement) => !requirement.present());
  if (missing.length === 0) return true;
  const packages = [...new Set(missing.flatMap((requirement) => requirement.packages))];
  const asRoot = await rootPrefix();
  if (!existsSync("/usr/bin/apt-get") || asRoot === undefined) {
    say("Missing on this machine:");
    for (const requirement of missing)
      say(`  ${requirement.what}   (Debian: ${requirement.packages.join(" ")})`);
    say(
      existsSync("/usr/bin/apt-get")
        ? `Installing needs root, without a password to type. Run: sudo node ${join(root, "scripts/debian.mjs")} ${packages.join(" ")}`
        : "Install these with this system's own tools, then run this again.",
    );
    return false;
  }
  say(`Installing Debian packages: ${packages.join(" ")} (their services stay off)`);
  const done = await run([...asRoot, process.execPath, join(root, "scripts/debian.mjs"), ...packages], {
    show: true,
  });
  const left = requirements(needs).filter((requirement) => !requirement.present());
  if (done.code !== 0 || left.length > 0) {
    say(
      `Could not be installed: ${(left.length > 0 ? left : missing).map((requirement) => requirement.what).join(", ")}`,
    );
    return false;
  }
  say(`  done in ${done.seconds.toFixed(0)} s`);
  return true;
}

/** What to put before a command so that it runs as root; undefined = no way without a password. */
async function rootPrefix() {
  if (process.getuid?.() === 0) return [];
  const sudo = await run(["sudo", "-n", "true"], { timeoutMs: 10_000 });
  return sudo.code === 0 ? ["sudo", "-n"] : undefined;
}

async function setUpPackages() {
  if (!packagesAreStale()) return true;
  say("Installing npm packages (npm ci)");
  const done = await run(["npm", "ci", "--no-fund", "--no-audit"], { timeoutMs: 10 * 60_000 });
  if (done.code !== 0) {
    say(done.output.trimEnd().split("\n").slice(-20).join("\n"));
    say("npm ci failed.");
    return false;
  }
  say(`  done in ${done.seconds.toFixed(0)} s`);
  return true;
}

/** Compares the lock file with what npm says it has installed; packages for other platforms are not expected. */
function packagesAreStale() {
  const installed = join(root, "node_modules/.package-lock.json");
  if (!existsSync(installed)) return true;
  const wanted = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")).packages;
  const present = JSON.parse(readFileSync(installed, "utf8")).packages;
  return Object.entries(wanted).some(([path, entry]) => {
    if (path === "" || entry.link === true) return false;
    const found = present[path];
    if (found === undefined)
      return entry.optional !== true && entry.devOptional !== true && entry.peer !== true;
    return found.version !== entry.version;
  });
}

async function setUpBuild() {
  if (!buildIsStale()) return true;
  say("Building (npm run build)");
  return await buildProgram();
}

if (isProgram(import.meta.url)) {
  const ready = await setUp({ tests: process.argv.includes("--tests") });
  if (ready) say("Everything is in place.");
  process.exitCode = ready ? 0 : 1;
}
