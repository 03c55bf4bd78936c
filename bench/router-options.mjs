// The command line of the router's measurement.
import { parseArgs } from "node:util";

export const peerNames = ["haproxy", "pgbouncer", "pgpool"];
const usualCases = ["reads", "writes", "connect", "copy", "switchover", "postmaster", "idle", "storm"];
/** The soak is for who asks for it: it takes its time. */
export const caseNames = [...usualCases, "soak"];
const pathNames = ["session", "stream", "kernel"];
const modeNames = ["simple", "extended", "prepared"];

export const usageText = `npm run bench:router [-- OPTION...]
  --peer LIST      peers to measure beside it, of: ${peerNames.join(",")} (installed if need be)
  --only CASE      one case of: ${caseNames.join(", ")} (repeatable)
  --path LIST      our data paths, of: ${pathNames.join(",")} (default: all)
  --mode LIST      pgbench's protocols, of: ${modeNames.join(",")} (default: all)
  --clients LIST   clients of reads, writes and connect (default 1,20,100)
  --rounds N       rounds of each figure (default 5; 20 of switchover, 10 of postmaster)
  --seconds S      length of one run of pgbench (default 10)
  --minutes N      length of the soak (default 10)
  --idle N         idle clients (default 10000; fewer where the server's memory does not do, and it says so)
  --json           print the rows as JSON`;

const listOf = (text) =>
  text
    .split(",")
    .map((each) => each.trim())
    .filter((each) => each !== "");
const countOf = (text) => (/^[1-9]\d{0,6}$/.test(text) ? Number(text) : null);

/** @returns what was asked for; a text when it cannot be understood */
export function readOptions(argv) {
  let values;
  try {
    values = parseArgs({
      args: argv,
      options: {
        peer: { type: "string", default: "" },
        only: { type: "string", multiple: true, default: usualCases },
        path: { type: "string", default: pathNames.join(",") },
        mode: { type: "string", default: modeNames.join(",") },
        clients: { type: "string", default: "1,20,100" },
        rounds: { type: "string" },
        seconds: { type: "string", default: "10" },
        idle: { type: "string", default: "10000" },
        minutes: { type: "string", default: "10" },
        json: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    }).values;
  } catch (error) {
    return error.message;
  }
  const lists = {
    peer: [listOf(values.peer), peerNames],
    only: [values.only, caseNames],
    path: [listOf(values.path), pathNames],
    mode: [listOf(values.mode), modeNames],
  };
  for (const [option, [given, known]] of Object.entries(lists)) {
    const unknown = given.find((name) => !known.includes(name));
    if (unknown !== undefined) return `--${option} does not know ${unknown}; it takes ${known.join(", ")}.`;
  }
  const clients = listOf(values.clients).map(countOf);
  const rounds = values.rounds === undefined ? undefined : countOf(values.rounds);
  const seconds = countOf(values.seconds);
  const idle = countOf(values.idle);
  const minutes = countOf(values.minutes);
  if (clients.includes(null) || clients.length === 0) return "--clients takes whole numbers from 1 on.";
  const wrong = Object.entries({ rounds, seconds, idle, minutes }).find(([, value]) => value === null);
  if (wrong !== undefined) return `--${wrong[0]} takes a whole number from 1 on.`;
  return {
    peers: lists.peer[0],
    only: lists.only[0],
    paths: lists.path[0],
    modes: lists.mode[0],
    clients,
    /** @param {number} usual of a case */
    rounds: (usual) => rounds ?? usual,
    seconds,
    idle,
    minutes,
    json: values.json,
    help: values.help,
  };
}
