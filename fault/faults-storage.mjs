// Faults of the leader's disk.
import { canLoop, empty, fill, freeze, thaw } from "./volumes.mjs";

/** @type {import("./faults.mjs").Fault[]} */
export const storageFaults = [
  {
    name: "full-disk",
    about: "the leader's volume has no room left, for longer than the ttl",
    async strike({ leader, hold, longer }) {
      await fill(leader.place);
      await hold(longer);
      empty(leader.place);
    },
  },
  {
    name: "frozen-disk",
    about: "the leader's volume takes no writes and gives no error (fsfreeze), for longer than the ttl",
    possible: () =>
      canLoop() ? null : "no loop devices or no fsfreeze here: a volume in memory cannot be frozen",
    async strike({ leader, hold, longer }) {
      await freeze(leader.place);
      await hold(longer);
      await thaw(leader.place);
    },
  },
];
