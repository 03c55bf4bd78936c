import { fileURLToPath } from "node:url";

/** The file that starts pgherd: what a guard or a supervised agent is started with. */
export function programFile(): string {
  return fileURLToPath(new URL("../bin/pgherd", import.meta.url));
}
