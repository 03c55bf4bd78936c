// The command lines of the scripts: usage for --help, and a plain refusal for what is not known. Needs nothing but Node.
import { parseArgs } from "node:util";

/**
 * Reads the options; prints and ends the process when there is nothing to do (--help) or they cannot be understood.
 * @param {string} usage printed whole
 * @param {import("node:util").ParseArgsConfig["options"]} options
 * @param {readonly string[]} [numbers] options that take a whole number, from 0 on
 */
export function readArguments(usage, options, numbers = []) {
  let values;
  try {
    values = parseArgs({ options: { ...options, help: { type: "boolean", default: false } } }).values;
  } catch (error) {
    refuse(usage, error.message.split(". ")[0]);
  }
  if (values.help) {
    console.log(usage);
    process.exit(0);
  }
  for (const name of numbers)
    if (values[name] !== undefined && !/^\d{1,12}$/.test(values[name]))
      refuse(usage, `--${name} takes a whole number, not ${JSON.stringify(values[name])}`);
  return values;
}

function refuse(usage, problem) {
  console.error(`${problem}.\n\n${usage}`);
  process.exit(2);
}
