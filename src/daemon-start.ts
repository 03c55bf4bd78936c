import { parseArgs } from "node:util";
import { toFault, type Fault } from "./values/fault.ts";

/** Ended by a mistake that a restart cannot mend (EX_CONFIG): whoever started the daemon gives up. */
const configurationExit = 78;

/** What a daemon's command line may hold besides `--config FILE` and `--help`. */
type Options = NonNullable<Parameters<typeof parseArgs>[0]>["options"];

/** Runs a daemon on the configuration file its command line names. @returns the exit code */
export async function startDaemon(
  argv: readonly string[],
  usage: string,
  options: Options,
  run: (file: string) => Promise<number>,
): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: { config: { type: "string" }, help: { type: "boolean" }, ...options },
    strict: false,
  });
  const file = values["config"];
  if (typeof file !== "string") {
    process.stderr.write(usage);
    return values["help"] === true ? 0 : 2;
  }
  try {
    return await run(file);
  } catch (thrown) {
    return reportAndEnd(toFault(thrown));
  }
}

function reportAndEnd(fault: Fault): number {
  process.stderr.write(`${fault.message} [${fault.code}]\n`);
  if (fault.detail !== null) process.stderr.write(`  detail  ${fault.detail}\n`);
  if (fault.hint !== null) process.stderr.write(`  next    ${fault.hint}\n`);
  if (fault.code === "INTERNAL") process.stderr.write(`${fault.stack ?? ""}\n`);
  return fault.retrySafe ? 1 : configurationExit;
}
