// Kills of the primary, and what the archive kept: npm run fault:backup. See README.md.
import { say } from "../scripts/run.mjs";
import { setUp } from "../scripts/setup.mjs";
import { readOptions, usageText } from "./backup-options.mjs";

const options = readOptions(process.argv.slice(2));
if (typeof options === "string") {
  say(`${options}\n\n${usageText}`);
  process.exitCode = 2;
} else if (options.help) console.log(usageText);
else if (!(await setUp({ tests: false }))) process.exitCode = 1;
else {
  // Only now are the packages and the build there that the rest imports.
  const { runKills } = await import("./backup-suite.mjs");
  process.exitCode = await runKills(options);
}
