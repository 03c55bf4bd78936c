// The command line of the suite.
import { parseArgs } from "node:util";
import { faults, smoke } from "./faults.mjs";

export const usageText = `npm run fault [-- OPTION...]        (as root: hosts are network namespaces)
  --list             the faults, and which of them cannot be done here
  --only NAME,...    these faults only (repeatable)
  --smoke            the part that npm test runs: ${smoke.join(", ")}
  --rounds N         rounds of each fault (default 3)
  --set KEY=VALUE    a cluster setting, such as ttl=2s (repeatable)
  --resume FILE      keeps the rounds in FILE and goes on where it ended; of the same commit and settings only
  --logs DIR         where the logs of bad rounds go (default: a new directory below the temporary one)
  --keep-all         keeps the logs of good rounds too
  --json             print the rows as JSON`;

/** @returns what was asked for; a text when it cannot be understood */
export function readOptions(argv) {
  let values;
  try {
    values = parseArgs({
      args: argv,
      options: {
        list: { type: "boolean", default: false },
        only: { type: "string", multiple: true },
        smoke: { type: "boolean", default: false },
        rounds: { type: "string" },
        set: { type: "string", multiple: true, default: [] },
        resume: { type: "string" },
        logs: { type: "string" },
        "keep-all": { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    }).values;
  } catch (error) {
    return error.message;
  }
  const names = faults.map((fault) => fault.name);
  const only = values.only?.flatMap((each) => each.split(",")) ?? (values.smoke ? smoke : null);
  const unknown = only?.find((name) => !names.includes(name));
  if (unknown !== undefined) return `Unknown fault: ${unknown}. The faults: ${names.join(", ")}.`;
  const rounds = Number(values.rounds ?? (values.smoke ? 1 : 3));
  if (!Number.isInteger(rounds) || rounds < 1) return "--rounds takes a whole number from 1 on.";
  const wrong = values.set.find((each) => !/^[A-Za-z_][\w.-]*=/.test(each));
  if (wrong !== undefined) return `--set ${wrong} is not key=value.`;
  return {
    list: values.list,
    chosen: faults.filter((fault) => only?.includes(fault.name) ?? true),
    rounds,
    set: values.set,
    resume: values.resume ?? null,
    logs: values.logs ?? null,
    keepAll: values["keep-all"],
    json: values.json,
    help: values.help,
  };
}

/** The length of the lease that these settings make, in milliseconds. */
export function ttlOf(set) {
  const text = set.findLast((each) => each.startsWith("ttl="))?.slice(4) ?? "5s";
  const [, figure, unit] = /^(\d+(?:\.\d+)?)(ms|s|min)?$/.exec(text) ?? [];
  if (figure === undefined) throw new Error(`--set ttl=${text}: not a duration such as 5s`);
  return Number(figure) * { ms: 1, s: 1000, min: 60_000 }[unit ?? "s"];
}
