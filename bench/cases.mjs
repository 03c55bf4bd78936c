// What is done to a cluster, and how to tell that it is over.
import { sleep } from "./processes.mjs";

/**
 * @typedef {object} OutageCase a fault or a move under write load; its value is the write outage in seconds
 * @property {string} name
 * @property {number} ttl seconds, of ours; the peer keeps its default
 * @property {boolean} peerOnce the peer has no such setting: measured with the first case of this name only
 * @property {(system: any, leader: string, ttl: number) => Promise<unknown>} strike
 * @property {(system: any, leader: string) => Promise<unknown>} [repair] brings back what does not come back by itself
 * @property {(seen: import("./writer.mjs").Seen) => boolean} over whether the client has been through it
 */

/** The client failed at least once since the fault, and has written again for a while. */
const interruptedAndBack = (seen) =>
  seen.backMs !== null && !seen.failing && seen.lastAckMs - seen.backMs > 300;
const writing = (seen) => seen.afterMark > 100;

const hostDeath = {
  name: "host-death",
  strike: (system, leader) => system.kill(leader, "host"),
  repair: (system, leader) => system.start(leader),
  over: interruptedAndBack,
};

/** @type {OutageCase[]} */
export const outageCases = [
  {
    name: "postmaster-kill",
    ttl: 5,
    strike: (system, leader) => system.kill(leader, "postgres"),
    over: interruptedAndBack,
  },
  { ...hostDeath, ttl: 5 },
  { ...hostDeath, ttl: 2, peerOnce: true },
  {
    name: "switchover",
    ttl: 5,
    strike: (system, leader) =>
      system.switchover(leader, system.nodes[(system.nodes.indexOf(leader) + 1) % system.nodes.length]),
    over: interruptedAndBack,
  },
  {
    name: "agent-restart",
    ttl: 5,
    async strike(system, leader, ttl) {
      await system.restartAgent(leader);
      // A lease that nobody renewed would run out by then.
      await sleep((ttl + 1) * 1000);
    },
    over: writing,
  },
];

/** The names `--only` takes. */
export const caseNames = [...new Set(outageCases.map((each) => each.name)), "idle"];
