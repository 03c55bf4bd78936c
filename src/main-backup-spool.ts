import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { tellServiceManager } from "./agent/service-watchdog.ts";
import { httpWal } from "./backup/push/http-wal.ts";
import { runSpool } from "./backup/push/run-spool.ts";
import { parseSize } from "./config/size.ts";
import { createLog } from "./program-log.ts";
import { systemClock } from "./system/clock.ts";
import { systemTimers } from "./system/timers.ts";
import { Fault, toFault } from "./values/fault.ts";
import { parseTimeline } from "./values/names.ts";
import { Secret } from "./values/secret.ts";

const usage = `usage: pgherd backup-spool --server URL --cluster NAME --data-dir DIR --spool DIR
         [--token-file FILE] [--ca-file FILE] [--source NAME] [--no-push] [--budget SIZE] [--ahead SIZE]
         [--restore] [--timeline N]
Serves archive_command and restore_command of one PostgreSQL, and prints both.
`;

/** `pgherd backup-spool`: for servers that no agent manages. Runs until it is told to end. @returns the exit code */
export async function backupSpoolMain(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      server: { type: "string" },
      cluster: { type: "string" },
      "data-dir": { type: "string" },
      spool: { type: "string" },
      "token-file": { type: "string" },
      "ca-file": { type: "string" },
      source: { type: "string" },
      "no-push": { type: "boolean" },
      budget: { type: "string" },
      ahead: { type: "string", default: "128MB" },
      restore: { type: "boolean" },
      timeline: { type: "string" },
      help: { type: "boolean" },
    },
    strict: true,
  });
  const { server, cluster, spool } = values;
  const dataDir = values["data-dir"];
  if (server === undefined || cluster === undefined || spool === undefined || dataDir === undefined) {
    process.stderr.write(usage);
    return values.help === true ? 0 : 2;
  }
  const log = createLog({ level: "info", format: "json" }, { cluster });
  const ended = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => ended.abort());
  const endTelling = tellServiceManager(process.env, systemTimers);
  try {
    const token = await tokenOf(values["token-file"]);
    const source = values.source ?? "archive_command";
    const port = httpWal({
      url: server,
      cluster,
      token: () => token,
      caFile: values["ca-file"] ?? null,
      source,
      timers: systemTimers,
    });
    await runSpool({
      port,
      dir: spool,
      dataDir,
      source: `pushed by ${source}`,
      token: () => null,
      push: values["no-push"] !== true,
      budgetBytes: values.budget === undefined ? null : sizeOf(values.budget),
      aheadBytes: sizeOf(values.ahead),
      mode: values.restore === true ? "restore" : "standby",
      towards: values.timeline === undefined ? null : (parseTimeline(Number(values.timeline)) ?? null),
      clock: systemClock,
      timers: systemTimers,
      log,
      signal: ended.signal,
      tell: (line) => process.stdout.write(`${line}\n`),
    });
    port.close();
    return 0;
  } catch (thrown) {
    const fault = toFault(thrown);
    process.stderr.write(`${fault.message} [${fault.code}]\n`);
    return 1;
  } finally {
    endTelling();
  }
}

async function tokenOf(file: string | undefined): Promise<Secret | null> {
  return file === undefined ? null : new Secret((await readFile(file, "utf8")).trim());
}

function sizeOf(text: string): number {
  const bytes = parseSize(text);
  if (bytes === undefined) throw new Fault("USAGE", `${text} is no size.`, { hint: "For example 10GB." });
  return bytes;
}
