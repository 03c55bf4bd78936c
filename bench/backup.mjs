// Measures backups and restores, and what the archive costs a commit: npm run bench:backup. See README.md.
import { setUp } from "../scripts/setup.mjs";
import { readOptions } from "./backup-options.mjs";

const options = readOptions();
if (!(await setUp({ tests: false, peers: options.peers }))) process.exitCode = 1;
else {
  // Only now are the packages there that the rest imports.
  const { runBackupSession } = await import("./backup-session.mjs");
  process.exit(await runBackupSession(options));
}
