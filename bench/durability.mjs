// Measures what durability costs and how fast it lets go: npm run bench:durability. See README.md.
import { parseArgs } from "node:util";
import { say } from "../scripts/run.mjs";
import { setUp } from "../scripts/setup.mjs";

const caseNames = ["commit", "unblock", "stop-budget", "stalls"];
const usageText = `npm run bench:durability [-- OPTION...]
  --only CASE      one case of: ${caseNames.join(", ")} (repeatable)
  --rounds N       runs of each figure (default 5)
  --seconds S      length of one run of pgbench (default 10)
  --minutes M      length of the run with stalls (default 30)
  --json           print the rows as JSON`;

/** @returns what was asked for; a text when it cannot be understood */
function readOptions(argv) {
  let values;
  try {
    values = parseArgs({
      args: argv,
      options: {
        only: { type: "string", multiple: true },
        rounds: { type: "string", default: "5" },
        seconds: { type: "string", default: "10" },
        minutes: { type: "string", default: "30" },
        json: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    }).values;
  } catch (error) {
    return error.message;
  }
  const unknown = values.only?.find((name) => !caseNames.includes(name));
  if (unknown !== undefined) return `Unknown case: ${unknown}. The cases: ${caseNames.join(", ")}.`;
  const numbers = ["rounds", "seconds", "minutes"].map((name) => [name, Number(values[name])]);
  const wrong = numbers.find(([, value]) => !Number.isInteger(value) || value < 1);
  if (wrong !== undefined) return `--${wrong[0]} takes a whole number from 1 on.`;
  return {
    ...Object.fromEntries(numbers),
    only: values.only ?? caseNames,
    json: values.json,
    help: values.help,
  };
}

const options = readOptions(process.argv.slice(2));
if (typeof options === "string") {
  say(`${options}\n\n${usageText}`);
  process.exitCode = 2;
} else if (options.help) console.log(usageText);
else if (!(await setUp({ tests: false }))) process.exitCode = 1;
else {
  // Only now are the packages there that the rest imports.
  const { runDurability } = await import("./durability-session.mjs");
  process.exit(await runDurability(options));
}
