// What the cluster says of itself during a round, by time.
import { nowMs, sleep } from "../bench/processes.mjs";

const everyMs = 100;

/**
 * Asks every node again and again.
 * @returns {{records: {at: number, node: string, leader: string | null, protected: boolean}[], stop: () => Promise<void>}}
 */
export function watchStatus(cluster) {
  const records = [];
  const ending = new AbortController();
  const ask = async (host) => {
    while (!ending.signal.aborted) {
      const at = nowMs(); // what is answered was so no earlier than this
      try {
        const { leader, durability } = await cluster.status(host);
        records.push({ at, node: host.name, leader, protected: durability.protected });
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
