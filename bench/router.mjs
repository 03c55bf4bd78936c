// Measures what the router costs and how a move feels through it: npm run bench:router. See README.md.
import { say } from "../scripts/run.mjs";
import { setUp } from "../scripts/setup.mjs";
import { readOptions, usageText } from "./router-options.mjs";

const options = readOptions(process.argv.slice(2));
if (typeof options === "string") {
  say(`${options}\n\n${usageText}`);
  process.exitCode = 2;
} else if (options.help) console.log(usageText);
else if (!(await setUp({ tests: false, peers: options.peers }))) process.exitCode = 1;
else {
  // Only now are the packages there that the rest imports.
  const { runRouterSession } = await import("./router-session.mjs");
  process.exit(await runRouterSession(options));
}
