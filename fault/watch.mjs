// What the cluster says of itself during a round, by time.
import { nowMs, sleep } from "../bench/processes.mjs";

const everyMs = 100;

/** When it was recorded that nothing is protected: between two questions the cluster itself knows. A clock may be wrong. */
function exposedSince(seconds, before, asked) {
  return Math.min(asked, Math.max(before, nowMs() - seconds * 1000));
}

/**
 * Asks every node again and again.
 * @returns {{records: {at: number, node: string, leader: string | null, protected: boolean}[], stop: () => Promise<void>}}
 */
export function watchStatus(cluster) {
  const records = [];
  const ending = new AbortController();
  const ask = async (host) => {
    let before = nowMs();
    while (!ending.signal.aborted) {
      const asked = nowMs(); // what is answered was so no earlier than this
      try {
        const { leader, durability } = await cluster.status(host);
        const at = durability.exposed_s === null ? asked : exposedSince(durability.exposed_s, before, asked);
        records.push({ at, node: host.name, leader, protected: durability.protected });
        before = asked;
      } catch {
        // down, frozen or cut off: the others know
      }
      await sleep(everyMs, ending.signal).catch(() => undefined);
    }
  };
  const work = Promise.all(cluster.hosts.map(ask));
  return {
    records,
    async stop() {
      ending.abort();
      await work;
      records.sort((a, b) => a.at - b.at);
    },
  };
}
