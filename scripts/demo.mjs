// From a bare machine to a running cluster (npm run demo): sets up what is missing, builds, and runs `pgherd demo up`.
// Run again it shows the cluster that is there.
import { join } from "node:path";
import { root, run } from "./run.mjs";
import { setUp } from "./setup.mjs";

if (await setUp({ tests: false })) {
  const demo = await run(
    [process.execPath, join(root, "bin/pgherd"), "demo", "up", ...process.argv.slice(2)],
    { inherit: true },
  );
  process.exitCode = demo.code;
} else process.exitCode = 1;
