import type { Log } from "../../agent/context.ts";
import type { Clock } from "../../system/clock.ts";
import { Fault } from "../../values/fault.ts";
import type { JobOptions, JobResults } from "../base/job-protocol.ts";
import { openCatalogue, type Catalogue } from "../catalogue/catalogue.ts";
import { readIdentity } from "../catalogue/identity.ts";
import { openSettledRepository } from "../open.ts";
import type { StoredRepository } from "../repository/open.ts";
import { verifyRepository, type VerifyReport } from "../repository/verify.ts";
import { throttled, type RepositoryJobContext } from "../repository-jobs.ts";
import { openArchive } from "../wal/open-archive.ts";
import { adviceFor } from "./advice.ts";
import { ClusterCheck } from "./cluster-check.ts";
import { historyProblems, missingWal } from "./lineage.ts";

type Problem = Omit<JobResults["verify"]["problems"][number], "advice">;

/** What a verification works with. */
export interface VerifyPorts {
  readonly clock: Clock;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly progress: (done: { readonly objects: number; readonly bytes: number }) => void;
}

/** The job of a backup server. @throws as verifyCluster */
export async function runVerify(
  context: RepositoryJobContext,
  options: JobOptions["verify"],
): Promise<JobResults["verify"]> {
  const repository = await openSettledRepository(context.settings.repository, context);
  try {
    const progress = throttled(context, "reading what is stored");
    return await verifyCluster(repository, options, { ...context, progress });
  } finally {
    await repository.close();
  }
}

/**
 * Reads what is stored, of one backup or of a whole cluster, and checks it: every object, and whether they fit together.
 * @throws Fault BACKUP_NOT_FOUND, BACKUP_KEY_WRONG, BACKUP_STORE_*
 */
export async function verifyCluster(
  repository: StoredRepository,
  { cluster, backup }: Pick<JobOptions["verify"], "cluster" | "backup">,
  ports: VerifyPorts,
): Promise<JobResults["verify"]> {
  const catalogue = await openCatalogue({ repository, cluster, log: ports.log });
  const stored = catalogue.backups().filter(({ state }) => state === "done" || state === "waiting");
  const wanted = backup === null ? stored : stored.filter(({ id }) => id === backup);
  if (backup !== null && wanted.length === 0)
    throw new Fault("BACKUP_NOT_FOUND", `There is no finished backup ${backup} of ${cluster}`);
  const identity = await readIdentity(repository, cluster).catch(ifDamaged);
  const check = new ClusterCheck({ repository, catalogue, identity });
  await check.readHistories();
  const idOf = new Map(wanted.map(({ id }) => [catalogue.keysOf(id).content, id]));
  const prefix = `clusters/${cluster}/`;
  const report = await verifyRepository(repository, {
    snapshots: [...idOf.keys()],
    prefixes: backup === null ? [prefix] : [`${prefix}backups/${backup}/`],
    deep: true,
    inspect: (key, data) => check.inspect(key, data),
    signal: ports.signal,
    progress: ports.progress,
  });
  const problems = [
    ...named(report, idOf),
    ...(await manifests(
      check,
      catalogue,
      wanted.map(({ id }) => id),
    )),
    ...(backup === null
      ? await together({ ports, repository, catalogue, check, damaged: identity === null })
      : []),
  ];
  return {
    objects: report.objects,
    bytes: report.bytes,
    problems: distinct(problems).map((problem) => ({
      ...problem,
      advice: adviceFor(problem.key, problem.backups),
    })),
  };
}

function named({ problems }: VerifyReport, idOf: ReadonlyMap<string, string>): readonly Problem[] {
  return problems.map(({ key, detail, snapshots }) => {
    const own = /\/backups\/([^/]+)\//.exec(key)?.[1];
    const backups = new Set(snapshots.flatMap((snapshot) => idOf.get(snapshot) ?? []));
    if (own !== undefined) backups.add(own);
    return { key, detail, backups: [...backups] };
  });
}

async function manifests(
  check: ClusterCheck,
  catalogue: Catalogue,
  ids: readonly string[],
): Promise<readonly Problem[]> {
  const problems: Problem[] = [];
  for (const id of ids) {
    const detail = await check.manifest(id);
    if (detail !== null) problems.push({ key: catalogue.keysOf(id).manifest, detail, backups: [id] });
  }
  return problems;
}

/** What only all objects together tell. */
async function together(from: {
  readonly ports: VerifyPorts;
  readonly repository: StoredRepository;
  readonly catalogue: Catalogue;
  readonly check: ClusterCheck;
  /** The cluster's identity cannot be read: its WAL is not looked at as a whole. */
  readonly damaged: boolean;
}): Promise<readonly Problem[]> {
  const { ports, repository, catalogue, check } = from;
  const { cluster } = catalogue;
  const lost = check.lost().map((problem) => ({ ...problem, backups: [] }));
  if (from.damaged) return lost;
  const archive = await openArchive({ repository, cluster, clock: ports.clock, log: ports.log });
  try {
    const { segmentBytes } = archive;
    if (segmentBytes === null) return lost;
    const lineage = {
      segmentBytes,
      histories: check.histories,
      tree: archive.timelines(),
      segments: [...archive.segments()],
      gaps: archive.gaps(),
      coverage: (timeline: Parameters<typeof archive.coverage>[0]) => archive.coverage(timeline),
    };
    const found = [
      ...historyProblems(lineage),
      ...check.misplaced(),
      ...missingWal(lineage, catalogue.backups()),
    ];
    return [
      ...lost,
      ...found.map(({ file, ...problem }) => ({ key: `clusters/${cluster}/wal/${file}`, ...problem })),
    ];
  } finally {
    await archive.close();
  }
}

/** One line for each object: what was said of it first, and all backups it is needed by. */
function distinct(problems: readonly Problem[]): readonly Problem[] {
  const byKey = new Map<string, Problem>();
  for (const problem of problems) {
    const known = byKey.get(problem.key);
    byKey.set(problem.key, {
      ...(known ?? problem),
      backups: [...new Set([...(known?.backups ?? []), ...problem.backups])],
    });
  }
  return [...byKey.values()];
}

function ifDamaged(thrown: unknown): null {
  if (
    thrown instanceof Fault &&
    (thrown.code === "BACKUP_DAMAGED" || thrown.code === "BACKUP_REPOSITORY_INVALID")
  )
    return null;
  throw thrown;
}
