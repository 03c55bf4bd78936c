// What an agent costs while nothing happens.
import { sleep, usage } from "./processes.mjs";

const windowMs = 60_000;
const sampleMs = 5_000;

/**
 * Watches the processes of several systems at the same time.
 * @returns {Promise<{system: any, part: string, cpuPercent: number[], residentMb: number[]}[]>} one value for each node
 */
export async function measureIdle(systems, signal) {
  await Promise.all(systems.map((system) => system.well()));
  await sleep(sampleMs, signal); // what came before has settled
  const watched = [];
  for (const system of systems)
    for (const [part, pids] of Object.entries(await system.processes()))
      watched.push({ system, part, pids, largestKb: pids.map(() => 0) });
  const before = watched.map(({ pids }) => pids.map(living));
  const began = performance.now();
  for (let sample = 0; sample < windowMs / sampleMs; sample += 1) {
    await sleep(sampleMs, signal);
    for (const each of watched)
      each.pids.forEach((pid, index) => {
        each.largestKb[index] = Math.max(each.largestKb[index], living(pid).residentKb);
      });
  }
  const ms = performance.now() - began;
  return watched.map(({ system, part, pids, largestKb }, index) => ({
    system,
    part,
    cpuPercent: pids.map((pid, node) => ((living(pid).cpuMs - before[index][node].cpuMs) / ms) * 100),
    residentMb: largestKb.map((kb) => kb / 1024),
  }));
}

function living(pid) {
  const used = pid === null ? null : usage(pid);
  if (used === null) throw new Error(`process ${pid} ended while it was measured`);
  return used;
}
