import { rm } from "node:fs/promises";
import { join } from "node:path";
import { Fault } from "../values/fault.ts";
import {
  canBeSwapped,
  examineDirectory,
  preparedDirectory,
  swapIn,
  writeStandbySignal,
} from "./data-directory.ts";
import { removeDurably, writeDurably } from "./durable-file.ts";
import { writeOpenHba } from "./generated-files.ts";
import type { BootstrapOptions } from "./instance.ts";
import { startPrimary, stop, type Lifecycle } from "./lifecycle.ts";
import { program } from "./options.ts";
import { lastLines, runProgram } from "./programs.ts";
import { ensureRoles } from "./roles.ts";

/** How long the new, private server may take to start and to stop. */
const privateRunMs = 60_000;

/**
 * Makes a new database cluster: beside its place first, so that a crash leaves nothing half made; then starts it for this
 * host's agent alone (no TCP), makes the roles, and stops it.
 * @throws Fault DATA_DIR_*, PROGRAM_FAILED, POSTGRES_START_FAILED
 */
export async function bootstrap(on: Lifecycle, options: BootstrapOptions): Promise<void> {
  const { at } = on;
  const directory = await examineDirectory(at, await on.major());
  if (directory.kind === "unusable") throw directory.fault;
  if (directory.kind === "data")
    throw new Fault("DATA_DIR_NOT_EMPTY", `${at.dataDir} already holds a database cluster`, {
      hint: "Start it as it is, or set it aside first.",
    });
  const target = (await canBeSwapped(at)) ? preparedDirectory(at) : at.dataDir;
  if (target !== at.dataDir) await rm(target, { recursive: true, force: true });
  await runInitdb(on, target, options);
  await writeOpenHba(target);
  // Until the roles are made nobody else may start it able to write either (P1).
  await writeStandbySignal(target);
  await swapIn(at, target);
  await startPrimary(on, options.settings, privateRunMs, { listenAddresses: "" });
  try {
    await ensureRoles(at);
  } finally {
    await stop(on, "fast", privateRunMs);
  }
}

async function runInitdb(on: Lifecycle, target: string, options: BootstrapOptions): Promise<void> {
  const { at } = on;
  const { superuser } = at.secrets();
  const passwordFile = join(at.stateDir, "initdb.password");
  await writeDurably(passwordFile, `${superuser.password.reveal()}\n`);
  const encoding = options.initdbOptions.some((option) => /^(-E|--encoding)/.test(option))
    ? []
    : ["--encoding=UTF8"];
  const args = [
    `--pgdata=${target}`,
    `--username=${superuser.user}`,
    `--pwfile=${passwordFile}`,
    "--auth=scram-sha-256",
    ...encoding,
    ...checksumArguments(options.dataChecksums, await on.major()),
    ...options.initdbOptions,
  ];
  try {
    const result = await runProgram(program(at, "initdb"), args, {
      timers: at.timers,
      timeoutMs: at.timeouts.longProgramMs,
      ownLocale: true,
    });
    if (result.code === 0) return;
    throw new Fault("PROGRAM_FAILED", "initdb failed", {
      detail: lastLines(result.stderr),
      hint: "Correct the options of initdb in the cluster settings, or what its message names.",
    });
  } finally {
    await removeDurably(passwordFile);
  }
}

/** From version 18 on checksums are on unless refused. */
function checksumArguments(wanted: boolean, major: number): readonly string[] {
  if (wanted) return ["--data-checksums"];
  return major >= 18 ? ["--no-data-checksums"] : [];
}
