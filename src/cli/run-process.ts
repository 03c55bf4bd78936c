import { processIo } from "./process-io.ts";
import { runCli } from "./run.ts";

/** Runs the command line of this process and ends it: open connections of an interrupted command must not hold it. */
export async function runCliProcess(argv: readonly string[]): Promise<never> {
  const code = await runCli(argv, processIo());
  await new Promise<void>((resolve) => process.stdout.write("", () => resolve()));
  process.exit(code);
}
