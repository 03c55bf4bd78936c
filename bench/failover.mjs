// Measures write outages of a whole cluster on this machine: npm run bench:failover. See README.md.
import { say } from "../scripts/run.mjs";
import { setUp } from "../scripts/setup.mjs";
import { readOptions, usageText } from "./options.mjs";

const options = readOptions(process.argv.slice(2));
if (typeof options === "string") {
  say(`${options}\n\n${usageText}`);
  process.exitCode = 2;
} else if (options.help) console.log(usageText);
else if (!(await setUp({ tests: options.peer }))) process.exitCode = 1;
else {
  // Only now are the packages there that the rest imports.
  const { runSession } = await import("./session.mjs");
  process.exit(await runSession(options));
}
