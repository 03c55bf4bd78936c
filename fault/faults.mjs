// Everything that is done to a cluster.
import { networkFaults } from "./faults-network.mjs";
import { processFaults } from "./faults-processes.mjs";
import { storageFaults } from "./faults-storage.mjs";

/**
 * @typedef {object} Context what a fault works with
 * @property {import("./cluster.mjs").Cluster} cluster
 * @property {import("./network.mjs").Network} network
 * @property {import("./store.mjs").Store} store
 * @property {import("./host.mjs").Host} leader who leads when it strikes
 * @property {import("./host.mjs").Host[]} standbys
 * @property {number} ttlMs
 * @property {number} longer milliseconds that are clearly longer than the ttl
 * @property {{uid: number}} user whom PostgreSQL and the agents run as
 * @property {(ms: number) => Promise<void>} hold
 * @property {() => Promise<void>} recovered waits until clients write again after a failure; not for ever
 * @property {(test: () => boolean, limitMs: number, what: string) => Promise<void>} until
 */

/**
 * @typedef {object} Fault
 * @property {string} name
 * @property {string} about one line for people
 * @property {2} [hosts] database hosts, when not three
 * @property {boolean} [moves] true: another node must lead afterwards; false: the same must. Else either may be right
 * @property {() => string | null} [possible] why it cannot be done on this machine; null = it can
 * @property {(context: Context) => Promise<unknown>} [prepare] before anything is measured
 * @property {(context: Context) => Promise<unknown> | unknown} strike does it, for as long as it lasts
 * @property {(context: Context) => Promise<unknown>} [after] what the suite's own repair does not undo
 */

/** @type {Fault[]} */
export const faults = [...processFaults, ...networkFaults, ...storageFaults];

/** The part that `npm test` runs. */
export const smoke = ["kill-host", "freeze-agent", "partition-leader"];

/** Why a fault cannot be done here; null = it can. */
export const impossible = (fault) => fault.possible?.() ?? null;
