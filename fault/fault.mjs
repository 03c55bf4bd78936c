// Real clusters on hosts made of network namespaces, faults, and a ledger of what was acknowledged: npm run fault. See README.md.
import { say } from "../scripts/run.mjs";
import { setUp } from "../scripts/setup.mjs";
import { impossible } from "./faults.mjs";
import { readOptions, usageText } from "./options.mjs";

const options = readOptions(process.argv.slice(2));
if (typeof options === "string") {
  say(`${options}\n\n${usageText}`);
  process.exitCode = 2;
} else if (options.help) console.log(usageText);
else if (options.list)
  for (const fault of options.chosen) {
    const why = impossible(fault);
    console.log(
      `${fault.name.padEnd(26)} ${fault.about}${fault.hosts === 2 ? " (two database hosts)" : ""}${why === null ? "" : `\n${" ".repeat(27)}NOT POSSIBLE HERE: ${why}`}`,
    );
  }
else if (process.getuid?.() !== 0) {
  say(
    "The fault suite needs root: its hosts are network namespaces, its disks are mounts. Run: sudo npm run fault",
  );
  process.exitCode = 2;
} else if (!(await setUp({ tests: false, hosts: true }))) process.exitCode = 1;
else {
  // Only now are the packages and the build there that the rest imports.
  const { runSuite } = await import("./suite.mjs");
  process.exitCode = await runSuite(options);
}
