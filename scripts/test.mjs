// Everything that proves the project (npm test): set-up, build, the gates of `npm run check`, and the integration tests
// against real servers. Its last lines are the test runner's summary.
//   npm test                 everything
//   npm test -- dcs agent    without the gates: only test files whose path contains one of these; `fault` = that suite's part
import { randomUUID } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { check } from "./check.mjs";
import { postgresUser } from "./requirements.mjs";
import { root, run } from "./run.mjs";
import { setUp } from "./setup.mjs";

/** How the fault suite ends on a machine that cannot make its hosts. */
const notPossible = 3;

/** What the tests need of the clone. */
const needed = [
  ".dependency-cruiser.cjs",
  "LICENSE",
  "bench",
  "bin",
  "deploy",
  "dist",
  "docs",
  "fault",
  "node_modules",
  "scripts",
  "src",
  "test",
  "package.json",
  "package-lock.json",
  "tsconfig.json",
  "tsconfig.build.json",
  "vitest.config.ts",
  "README.md",
];

/**
 * PostgreSQL refuses to run as root, and the user postgres may not be able to read the clone: root's tests run as that
 * user in a copy. @returns the folder to test in, as whom, and how to clean up
 */
async function workplace() {
  if (process.getuid?.() !== 0) return { dir: root, identity: {}, environment: {}, leave: async () => {} };
  const user = postgresUser();
  if (user === undefined) throw new Error("there is no user postgres");
  const dir = await mkdtemp(join(tmpdir(), "pgherd-tests-"));
  for (const name of needed)
    await cp(join(root, name), join(dir, name), { recursive: true, verbatimSymlinks: true }).catch(
      (error) => {
        if (error.code !== "ENOENT") throw error;
      },
    );
  await run(["chown", "-R", `${user.uid}:${user.gid}`, dir]);
  const environment = { HOME: dir, USER: "postgres", LOGNAME: "postgres" };
  return {
    dir,
    identity: { uid: user.uid, gid: user.gid },
    environment,
    leave: () => rm(dir, { recursive: true, force: true, maxRetries: 3 }),
  };
}

/** Kills what a test left behind, found by a mark in its environment. @returns the command lines */
function endLeftovers(mark) {
  const left = [];
  for (const pid of readdirSync("/proc").filter(
    (name) => /^\d+$/.test(name) && Number(name) !== process.pid,
  )) {
    try {
      if (!readFileSync(`/proc/${pid}/environ`, "latin1").split("\0").includes(mark)) continue;
      left.push(`${pid} ${readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").slice(0, 150)}`);
      process.kill(Number(pid), "SIGKILL");
    } catch {
      // ended meanwhile, or another user's
    }
  }
  return left;
}

async function integrationTests(filters) {
  const mark = randomUUID();
  const place = await workplace();
  try {
    const vitest = join(place.dir, "node_modules/vitest/vitest.mjs");
    const projects = filters.length > 0 ? [] : ["--project", "integration"];
    const tests = await run([process.execPath, vitest, "run", ...projects, ...filters], {
      cwd: place.dir,
      env: {
        ...place.environment,
        PGHERD_TEST_RUN: mark,
        ...(process.stdout.isTTY ? {} : { NO_COLOR: "1" }),
      },
      inherit: true,
      ...place.identity,
    });
    const left = endLeftovers(`PGHERD_TEST_RUN=${mark}`);
    if (left.length > 0)
      console.error(`The tests left processes behind (killed now):\n  ${left.join("\n  ")}`);
    return left.length > 0 ? 1 : tests.code;
  } finally {
    await place.leave();
  }
}

/**
 * A little of the fault suite (npm run fault): its hosts need root, which the other tests must not have.
 * @returns {Promise<string>} what is to be said of it; it begins with FAILED when it did
 */
async function faultSmoke() {
  if (process.getuid?.() !== 0)
    return "fault suite: 3 faults NOT RUN, its hosts are network namespaces and need root";
  const suite = [process.execPath, "fault/fault.mjs", "--smoke"];
  const { code, seconds, output } = await run(suite, { timeoutMs: 5 * 60_000 });
  console.error(output.trimEnd());
  if (code === notPossible) return "fault suite: 3 faults NOT RUN, for the reason above";
  const took = `in ${seconds.toFixed(0)} s`;
  return code === 0
    ? `fault suite: 3 faults passed ${took}`
    : `FAILED: the fault suite, with ${code} ${took}`;
}

const filters = process.argv.slice(2);
const asRoot = process.getuid?.() === 0;
if (await setUp({ tests: true, hosts: asRoot })) {
  // A failed gate does not hide what the other tests say.
  const gates = filters.length > 0 || (await check());
  // Not beside the others: its outages and theirs would be each other's.
  const hosts = filters.length === 0 || filters.includes("fault") ? await faultSmoke() : "";
  if (hosts !== "") console.error(`${hosts}\n`);
  const code = await integrationTests(filters);
  if (!gates) console.error("A gate of `npm run check` failed: see above.");
  if (hosts.startsWith("FAILED")) console.error(hosts);
  process.exitCode = gates && !hosts.startsWith("FAILED") ? code : 1;
} else process.exitCode = 1;
