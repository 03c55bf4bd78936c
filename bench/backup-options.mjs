// The command line of the backup measurement.
import { readArguments } from "../scripts/arguments.mjs";

const peerNames = ["barman", "pgbackrest"];
export const caseNames = ["full", "increment", "restore", "commit", "receiver", "fetch"];

const usage = `npm run bench:backup [-- OPTION...]
  --peer LIST      peers to measure beside it, of: ${peerNames.join(",")} (installed if need be)
  --only CASE      one case of: ${caseNames.join(", ")} (repeatable)
  --megabytes N    size of the database (default 1500)
  --rounds N       rounds of each figure (default 3; 20 of receiver)
  --seconds S      length of one run of pgbench (default 8)
  --json           print the rows as JSON`;

/** What was asked for; ends the process where it cannot be understood. */
export function readOptions() {
  const values = readArguments(
    usage,
    {
      peer: { type: "string", default: "" },
      only: { type: "string", multiple: true, default: caseNames },
      megabytes: { type: "string", default: "1500" },
      rounds: { type: "string" },
      seconds: { type: "string", default: "8" },
      json: { type: "boolean", default: false },
    },
    ["megabytes", "rounds", "seconds"],
  );
  const peers = values.peer.split(",").filter((name) => name !== "");
  const unknown =
    peers.find((name) => !peerNames.includes(name)) ?? values.only.find((name) => !caseNames.includes(name));
  if (unknown !== undefined) {
    console.error(`${unknown} is not known.\n\n${usage}`);
    process.exit(2);
  }
  const number = (text) => Math.max(1, Number(text));
  return {
    peers,
    only: values.only,
    megabytes: number(values.megabytes),
    /** @param {number} usual of a case */
    rounds: (usual) => (values.rounds === undefined ? usual : number(values.rounds)),
    seconds: number(values.seconds),
    json: values.json,
  };
}
