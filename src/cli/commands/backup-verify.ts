import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import { toWire } from "../../api/wire.ts";
import type { VerifySummary } from "../../backup/base/job-protocol.ts";
import { openCatalogue } from "../../backup/catalogue/catalogue.ts";
import { openForReading } from "../../backup/open.ts";
import type { StoredRepository } from "../../backup/repository/open.ts";
import { backupNamed } from "../../backup/restore/wish.ts";
import { verifyCluster } from "../../backup/verify/run-verify.ts";
import type { RepositorySettings } from "../../config/backup-config.ts";
import { Fault, toFault } from "../../values/fault.ts";
import { clientOf, locateBackups } from "../backup-location.ts";
import type { CommandContext } from "../context.ts";
import { exitCodes } from "../exit-code.ts";
import { bytesText, countText } from "../render/quantity.ts";
import { runJob, type JobFlags } from "./backup-change.ts";

interface VerifyFlags extends JobFlags {
  readonly repository?: string;
  readonly keyFile?: string;
}

/** `pgherd backup verify [ID]` */
export async function verify(
  context: CommandContext,
  flags: VerifyFlags,
  names: readonly string[],
): Promise<number | undefined> {
  const name = names[0] ?? null;
  if (flags.repository !== undefined) {
    const settings = await directorySettings(context, flags.repository, flags.keyFile);
    return verifyHere(context, settings, { cluster: flags.cluster ?? null, name });
  }
  if (flags.keyFile !== undefined)
    throw new Fault("USAGE", "--key-file is for a repository that is read here", {
      hint: "Name it with --repository DIR; a backup server has its key in its own file.",
    });
  const location = await locateBackups(context, flags);
  if (location.settings !== null && !(await answers(() => clientOf(location, "read")))) {
    context.note(["? The backup server does not run; the repository itself is read here."]);
    return verifyHere(context, location.settings.repository, { cluster: location.cluster, name });
  }
  const client = await clientOf(location, "write");
  const ended = await runJob(context, client, flags, { kind: "verify", backup: name });
  if (ended === null) return undefined;
  const { result } = ended;
  if (result === null || !("problems" in result)) return exitCodes.failed;
  context.result(toWire(ended), summaryLines(result));
  return result.problems.length === 0 ? exitCodes.done : exitCodes.failed;
}

async function answers(client: () => ReturnType<typeof clientOf>): Promise<boolean> {
  try {
    await (await client()).overview();
    return true;
  } catch (thrown) {
    if (toFault(thrown).code === "API_UNREACHABLE") return false;
    throw thrown;
  }
}

async function directorySettings(
  { io }: CommandContext,
  repository: string,
  keyFile: string | undefined,
): Promise<RepositorySettings> {
  const path = resolve(io.directory, repository);
  const found = await stat(path).catch(() => null);
  if (found?.isDirectory() !== true)
    throw new Fault("USAGE", `${path} is not a directory`, {
      hint: "Name the directory that holds repository.json; for one on S3 name its backup file with --config.",
    });
  return {
    place: { kind: "directory", path },
    keyFile: keyFile === undefined ? null : resolve(io.directory, keyFile),
  };
}

/** Reads a repository in this process; all its clusters where none is named. */
async function verifyHere(
  context: CommandContext,
  settings: RepositorySettings,
  wanted: { readonly cluster: string | null; readonly name: string | null },
): Promise<number> {
  const { clock, timers, interrupted, stderr } = context.io;
  const repository = await openForReading(settings, { clock, timers });
  try {
    const clusters = await clustersOf(repository, wanted.cluster);
    if (clusters.length > 1 && wanted.name !== null)
      throw new Fault("USAGE", "Which cluster's backup?", {
        hint: `Name it with --cluster: ${clusters.join(", ")}.`,
      });
    let said = clock.now();
    const results: (VerifySummary & { readonly cluster: string })[] = [];
    for (const cluster of clusters) {
      const log = (): void => undefined;
      const catalogue = await openCatalogue({ repository, cluster, log });
      const done = catalogue.backups().filter(({ state }) => state === "done" || state === "waiting");
      const newest = wanted.name === "latest" ? (done.at(-1)?.id ?? null) : wanted.name;
      const backup = newest === null ? null : backupNamed(done, newest);
      const progress = ({ objects, bytes }: { readonly objects: number; readonly bytes: number }): void => {
        if (!stderr.terminal || clock.now() - said < 200) return;
        said = clock.now();
        stderr.write(`\r\u001b[K~ ${cluster}: ${countText(objects, "object")}, ${bytesText(bytes)}`);
      };
      const ports = { clock, log, signal: interrupted, progress };
      results.push({ cluster, ...(await verifyCluster(repository, { cluster, backup }, ports)) });
      if (stderr.terminal) stderr.write("\r\u001b[K");
    }
    context.result(
      toWire({ repository: repository.store.description, clusters: results }),
      results.flatMap((each) => [
        ...(results.length === 1 ? [] : [`${each.cluster}:`]),
        ...summaryLines(each),
      ]),
    );
    return results.every(({ problems }) => problems.length === 0) ? exitCodes.done : exitCodes.failed;
  } finally {
    await repository.close();
  }
}

/** The clusters a repository has, or the one that is named. @throws Fault NOT_FOUND */
async function clustersOf({ store }: StoredRepository, named: string | null): Promise<readonly string[]> {
  const found = new Set<string>();
  for await (const { key } of store.list("clusters/")) found.add(key.split("/")[1] ?? "");
  const names = [...found].sort();
  if (named !== null && found.has(named)) return [named];
  if (named === null && names.length > 0) return names;
  throw new Fault(
    "NOT_FOUND",
    named === null ? "The repository has no cluster yet" : `The repository has no cluster ${named}`,
    { detail: `${store.description}${names.length === 0 ? "" : `: ${names.join(", ")}`}.` },
  );
}

function summaryLines({ problems, objects, bytes }: VerifySummary): readonly string[] {
  return [
    ...problems.flatMap(({ key, detail, backups, advice }) => [
      `! ${key}: ${detail}${backups.length === 0 ? "" : ` (needed by ${backups.join(", ")})`}`,
      `  ${advice}`,
    ]),
    problems.length === 0
      ? `Everything is whole: ${countText(objects, "object")}, ${bytesText(bytes)} were read.`
      : `${countText(problems.length, "problem")} in ${countText(objects, "object")}.`,
  ];
}
