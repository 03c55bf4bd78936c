// The command line of npm run fault:backup.
import { parseArgs } from "node:util";

export const usageText = `npm run fault:backup [-- OPTION...]
  --rounds N      kills of the primary (default 200)
  --every N       kills between two restores of everything from the repository alone (default 10)
  --seed N        draws the same kills and delays again (default: drawn)
  --ttl SECONDS   length of the lease (default 3)
  --resume FILE   keeps the rounds in FILE and goes on where it ended; of the same commit and options only
  --logs DIR      where everything of a bad run goes (default: a new directory below the temporary one)
  --json          print the result as JSON`;

/** @returns what was asked for; a text when it cannot be understood */
export function readOptions(argv) {
  let values;
  try {
    values = parseArgs({
      args: argv,
      options: {
        rounds: { type: "string", default: "200" },
        every: { type: "string", default: "10" },
        seed: { type: "string" },
        ttl: { type: "string", default: "3" },
        resume: { type: "string" },
        logs: { type: "string" },
        json: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    }).values;
  } catch (error) {
    return error.message;
  }
  const numbers = {
    rounds: Number(values.rounds),
    every: Number(values.every),
    ttl: Number(values.ttl),
    seed: values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed),
  };
  for (const name of ["rounds", "every", "ttl"])
    if (!Number.isInteger(numbers[name]) || numbers[name] < 1)
      return `--${name} takes a whole number from 1 on.`;
  if (!Number.isInteger(numbers.seed) || numbers.seed < 0) return "--seed takes a whole number from 0 on.";
  return {
    ...numbers,
    resume: values.resume ?? null,
    logs: values.logs ?? null,
    json: values.json,
    help: values.help,
  };
}
