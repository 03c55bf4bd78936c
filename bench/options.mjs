// The command line of the measurement.
import { parseArgs } from "node:util";
import { caseNames } from "./cases.mjs";

export const usageText = `npm run bench:failover [-- OPTION...]
  --only CASE      one case of: ${caseNames.join(", ")} (repeatable)
  --rounds N       runs of each case (default 10)
  --ttl S          length of pgherd's leader lease in seconds, for every case
  --router         measure a client behind pgherd's router too, in turn
  --peer patroni   measure Debian's Patroni and HAProxy beside it, in turn
  --json           print the rows as JSON
  --logs DIR       keep the agents' logs and a line for each round there`;

/** @returns what was asked for; a text when it cannot be understood */
export function readOptions(argv) {
  let values;
  try {
    values = parseArgs({
      args: argv,
      options: {
        only: { type: "string", multiple: true },
        rounds: { type: "string", default: "10" },
        ttl: { type: "string" },
        peer: { type: "string" },
        router: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        logs: { type: "string" },
        help: { type: "boolean", default: false },
      },
    }).values;
  } catch (error) {
    return error.message;
  }
  const rounds = Number(values.rounds);
  const ttl = values.ttl === undefined ? null : Number(values.ttl.replace(/s$/, ""));
  const unknown = values.only?.find((name) => !caseNames.includes(name));
  if (unknown !== undefined) return `Unknown case: ${unknown}. The cases: ${caseNames.join(", ")}.`;
  if (!Number.isInteger(rounds) || rounds < 1) return "--rounds takes a whole number from 1 on.";
  if (ttl !== null && !(ttl >= 2 && ttl <= 300)) return "--ttl takes seconds, from 2 to 300.";
  if (values.peer !== undefined && values.peer !== "patroni") return "--peer knows one peer: patroni.";
  return {
    only: values.only ?? caseNames,
    rounds,
    ttl,
    peer: values.peer === "patroni",
    router: values.router,
    json: values.json,
    logs: values.logs ?? null,
    help: values.help,
  };
}
