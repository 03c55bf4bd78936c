// Installs Debian packages as root so that none of their services runs or starts at boot, and no PostgreSQL cluster is
// created. Services that were there before are left alone. Usage: node scripts/debian.mjs PACKAGE... Needs nothing but Node.
import {
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  chmodSync,
  copyFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { isProgram, run, say } from "./run.mjs";

const policy = "/usr/sbin/policy-rc.d";
const clusterDefaults = "/etc/postgresql-common/createcluster.conf";
const kept = ".kept-by-pgherd-setup";
const none = ".absent-before-pgherd-setup";
const unitLinks = "/etc/systemd/system";
const aptEnvironment = { DEBIAN_FRONTEND: "noninteractive", NEEDRESTART_MODE: "l", LC_ALL: "C.UTF-8" };

/** Puts `text` into a file until `restore`; what was there is kept beside it, also over a killed run. */
function override(path, text, mode) {
  restore(path);
  if (existsSync(path)) copyFileSync(path, path + kept);
  else writeFileSync(path + none, "");
  writeFileSync(path, text);
  chmodSync(path, mode);
}

/** Brings back what `override` kept; harmless when there is nothing to bring back. */
function restore(path) {
  if (existsSync(path + kept)) renameSync(path + kept, path);
  else if (existsSync(path + none)) {
    rmSync(path, { force: true });
    rmSync(path + none);
  }
}

/** Names of everything that starts at boot: links of systemd units, and start links of init scripts. */
function startedAtBoot() {
  const units = new Set();
  for (const dir of existsSync(unitLinks) ? readdirSync(unitLinks) : [])
    if (/\.(wants|requires)$/.test(dir))
      for (const unit of readdirSync(join(unitLinks, dir))) units.add(unit);
  const scripts = new Set();
  for (const level of ["2", "3", "4", "5"]) {
    const dir = `/etc/rc${level}.d`;
    for (const link of existsSync(dir) ? readdirSync(dir) : [])
      if (/^S\d\d/.test(link)) scripts.add(link.slice(3));
  }
  return { units, scripts };
}

const hasSystemctl = () => existsSync("/usr/bin/systemctl") || existsSync("/bin/systemctl");
const systemdRuns = () => existsSync("/run/systemd/system");

/** Takes everything that `before` did not have out of the boot, and stops it where systemd started it all the same. */
async function disableNew(before) {
  const after = startedAtBoot();
  const units = [...after.units].filter((unit) => !before.units.has(unit));
  const scripts = [...after.scripts].filter((script) => !before.scripts.has(script));
  for (const unit of units) {
    if (hasSystemctl()) await run(["systemctl", "disable", "--quiet", unit]);
    for (const dir of readdirSync(unitLinks))
      if (/\.(wants|requires)$/.test(dir)) rmSync(join(unitLinks, dir, unit), { force: true });
  }
  for (const script of scripts) await run(["update-rc.d", script, "disable"]);
  if (systemdRuns()) {
    const names = new Set([...units, ...scripts.map((script) => `${script}.service`)]);
    for (const name of names) await run(["systemctl", "stop", name], { timeoutMs: 60_000 });
  }
  const names = new Set([...units.map((unit) => basename(unit, ".service")), ...scripts]);
  if (names.size > 0) say(`  disabled at boot: ${[...names].join(", ")}`);
}

async function apt(...args) {
  const result = await run(["apt-get", "-q", "-o", "DPkg::Lock::Timeout=180", ...args], {
    env: aptEnvironment,
    cwd: "/",
    timeoutMs: 10 * 60_000,
  });
  if (result.code !== 0) say(result.output.trimEnd().split("\n").slice(-15).join("\n"));
  return result.code === 0;
}

const install = (packages) =>
  apt("install", "-y", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold", ...packages);

/** Installs the packages. @returns whether that worked */
export async function installPackages(packages) {
  const before = startedAtBoot();
  const undo = () => {
    restore(policy);
    restore(clusterDefaults);
  };
  undo(); // what a killed run left
  process.once("exit", undo);
  try {
    override(policy, "#!/bin/sh\nexit 101\n", 0o755);
    // The lists may be old or, on a bare machine, missing. Offline with packages at hand it still works.
    if (!(await apt("update"))) say("  the package lists could not be renewed; trying with those at hand");
    if (packages.some((name) => name.startsWith("postgresql"))) {
      if (!(await install(["postgresql-common"]))) return false;
      const defaults = existsSync(clusterDefaults) ? readFileSync(clusterDefaults, "utf8") : "";
      override(clusterDefaults, `${defaults}\ncreate_main_cluster = false\n`, 0o644);
    }
    return await install(packages);
  } finally {
    undo();
    process.off("exit", undo);
    await disableNew(before);
  }
}

if (isProgram(import.meta.url)) process.exitCode = (await installPackages(process.argv.slice(2))) ? 0 : 1;
