import type { Random } from "../../system/random.ts";
import { Fault, toFault } from "../../values/fault.ts";
import { formatLsn } from "../../values/lsn.ts";
import { elapsedMs } from "../../values/time.ts";
import type { BackupId, BackupRecord, DrillRecord } from "../catalogue/records.ts";
import { coverageOf, coveredFrom, newestCovered } from "../restore/coverage.ts";
import { examinePlace, fill, type FillOptions } from "../restore/fill.ts";
import type { RestorePlan } from "../restore/plan.ts";
import { recover, type Reached } from "../restore/recover.ts";
import { refusalFault } from "../restore/refusal.ts";
import { programsFor } from "../restore/restore.ts";
import { lineOf } from "../restore/situation.ts";
import { catalogueOf, planRestore, type RestoreSource } from "../restore/source.ts";
import { targetText, type RestoreRequest } from "../restore/target.ts";
import { amcheck, assertion, checksums, type Assertion, type CheckResult } from "./checks.ts";
import { makeScratch, type Scratch } from "./scratch.ts";
import { drawTarget } from "./target.ts";

export interface DrillOptions extends Pick<
  FillOptions,
  "parallel" | "clock" | "timers" | "signal" | "onProgress"
> {
  readonly cluster: string;
  /** null = the newest finished one. */
  readonly backup: BackupId | null;
  /** null = drawn. */
  readonly target: RestoreRequest | null;
  /** Where it restores to, in a directory of its own that is removed afterwards. */
  readonly directory: string;
  /** null = the programs installed for the backup's version. */
  readonly binDir: string | null;
  readonly amcheck: boolean;
  readonly assertions: readonly Assertion[];
  /** Of each program and statement. */
  readonly timeoutMs: number;
  readonly random: Pick<Random, "fraction">;
}

type Step = DrillRecord["steps"][number];

/** What a drill knows so far. */
class Course {
  readonly steps: Step[] = [];
  target = "not chosen";
  reached: Reached | null = null;
  restoreMs = 0;
  readonly #options: DrillOptions;

  constructor(options: DrillOptions) {
    this.#options = options;
  }

  get passed(): boolean {
    return this.steps.every((step) => step.passed);
  }

  /** Does one step and notes how it ended. @throws what the work throws, after it was noted */
  async step<T>(name: string, work: () => Promise<T>, detail: (result: T) => CheckResult): Promise<T> {
    const { clock, signal, onProgress } = this.#options;
    const began = clock.now();
    onProgress({ step: name, done: null, total: null });
    try {
      if (signal.aborted) throw new Fault("BACKUP_CANCELLED", "The drill was called off");
      const result = await work();
      this.note(name, detail(result), elapsedMs(began, clock.now()));
      return result;
    } catch (thrown) {
      const fault = toFault(thrown);
      this.note(name, { passed: false, detail: faultText(fault) }, elapsedMs(began, clock.now()));
      throw fault;
    }
  }

  note(name: string, { passed, detail }: CheckResult, ms: number): void {
    this.steps.push({ name, passed, detail, ms: Math.round(ms) });
  }
}

function faultText(fault: Fault): string {
  return [fault.message, fault.detail].filter((each) => each !== null).join(": ");
}

/**
 * Restores a backup to scratch, lets PostgreSQL recover to a drawn target where nobody else can reach it, and looks whether all
 * is well. The record of it is kept, passed or not.
 * @throws Fault when nothing can be said about the backup: BACKUP_NOT_FOUND, BACKUP_CANCELLED, BACKUP_STORE_*, DISK_FULL,
 *   BINARIES_MISSING, RUNS_AS_ROOT
 */
export async function drill(source: RestoreSource, options: DrillOptions): Promise<DrillRecord> {
  const backup = chosen(source, options.backup);
  const startedAt = options.clock.wall();
  const course = new Course(options);
  const id = `${startedAt.replace(/[-:]|\.[0-9]+|Z/g, "")}-${backup.id}`;
  const scratch = await makeScratch(options.directory, `${options.cluster}-${id}`, options);
  try {
    await run(source, backup, scratch, course, options);
  } catch (thrown) {
    if (options.signal.aborted) throw new Fault("BACKUP_CANCELLED", "The drill was called off");
    const fault = toFault(thrown);
    if (saysNothing(fault)) throw fault;
  } finally {
    await scratch.remove();
  }
  const record: DrillRecord = {
    id,
    backup: backup.id,
    startedAt,
    endedAt: options.clock.wall(),
    passed: course.passed,
    target: course.target,
    reachedLsn: course.reached?.lsn ?? null,
    reachedTime: course.reached?.time ?? null,
    restoreMs: Math.round(course.restoreMs),
    replayMs: Math.round(course.reached?.ms ?? 0),
    steps: course.steps,
  };
  await source.catalogue.putDrill(record);
  return record;
}

async function run(
  source: RestoreSource,
  backup: BackupRecord,
  scratch: Scratch,
  course: Course,
  options: DrillOptions,
): Promise<void> {
  const binDir = programsFor(Math.floor(backup.serverVersion / 10_000), options.binDir);
  const plan = await course.step(
    "plan",
    () => drawn(source, backup, options, course),
    (made) => ({
      passed: true,
      detail: `to ${course.target}, on timeline ${made.timeline}, with ${made.files.length} segments`,
    }),
  );
  const began = options.clock.now();
  await course.step(
    "restore",
    async () => {
      const fillOptions: FillOptions = {
        ...options,
        dir: scratch.dataDir,
        tablespaces: { each: new Map(), below: scratch.tablespaces },
        overwrite: false,
        verify: true,
        recovery: { action: "promote", archiving: false },
        binDir,
      };
      const place = await examinePlace(plan, fillOptions);
      return fill(source, plan, place, fillOptions);
    },
    (filled) => ({
      passed: true,
      detail: `${filled.files} files, ${filled.bytes} bytes, as they were stored`,
    }),
  );
  course.restoreMs = elapsedMs(began, options.clock.now());
  const limits = { binDir, timers: options.timers, timeoutMs: options.timeoutMs, signal: options.signal };
  const recoverOptions = {
    ...options,
    dir: scratch.dataDir,
    binDir,
    onSegment: (name: string) => options.onProgress({ step: `replaying ${name}`, done: null, total: null }),
  };
  const recovering = options.clock.now();
  try {
    await recover(plan, recoverOptions, async (server, reached) => {
      course.reached = reached;
      course.note("recover", { passed: true, detail: `reached ${formatLsn(reached.lsn)}` }, reached.ms);
      if (options.amcheck)
        await course.step(
          "amcheck",
          () => amcheck(server, limits),
          (result) => result,
        );
      for (const each of options.assertions)
        await course.step(
          "assertion",
          () => assertion(server, each, options.timeoutMs),
          (result) => result,
        );
    });
  } catch (thrown) {
    if (course.reached === null)
      course.note(
        "recover",
        { passed: false, detail: faultText(toFault(thrown)) },
        elapsedMs(recovering, options.clock.now()),
      );
    throw thrown;
  }
  if (backup.checksums)
    await course.step(
      "checksums",
      () => checksums(scratch.dataDir, limits),
      (result) => result,
    );
}

/** The plan for the target that is asked for or drawn. @throws Fault BACKUP_TARGET_UNREACHABLE */
async function drawn(
  source: RestoreSource,
  backup: BackupRecord,
  options: DrillOptions,
  course: Course,
): Promise<RestorePlan> {
  const facts = await catalogueOf(source, options.clock);
  // Of a backup of a branch that was left, its own branch.
  const current = lineOf(facts, null);
  const onIt =
    current?.some((stretch) => stretch.timeline === (backup.stopTimeline ?? backup.timeline)) === true;
  const timeline = onIt ? null : (backup.stopTimeline ?? backup.timeline);
  const line = lineOf(facts, timeline);
  const coverage = line === null ? null : coverageOf(line, facts.timelines, facts.segments);
  const end = coverage === null ? null : coveredFrom(coverage, backup.startLsn);
  const isNewest = coverage !== null && end === newestCovered(coverage);
  const { random } = options;
  const request = options.target ?? {
    ...drawTarget(backup, end, isNewest, [random.fraction(), random.fraction()]),
    timeline,
  };
  course.target = targetText(request.target, formatLsn);
  const result = await planRestore(source, request, options.clock, options.signal);
  if (result.kind === "refused") throw refusalFault(result.refusal);
  return result.plan;
}

/** @throws Fault BACKUP_NOT_FOUND */
function chosen(source: RestoreSource, id: BackupId | null): BackupRecord {
  const backups = source.catalogue.backups();
  const backup =
    id === null ? backups.findLast((each) => each.state === "done") : source.catalogue.backup(id);
  if (backup === undefined || backup === null)
    throw new Fault(
      "BACKUP_NOT_FOUND",
      id === null ? "There is no finished backup" : `There is no backup ${id}`,
      {
        hint: "See pgherd backup list.",
      },
    );
  return backup;
}

/** Whether a fault is about this host or the way to the repository, and not about what is stored there. */
function saysNothing({ code }: Fault): boolean {
  return /^(BACKUP_STORE_.*|BACKUP_CANCELLED|BACKUP_NOT_FOUND|DISK_.*|BINARIES_MISSING|RUNS_AS_ROOT|INTERNAL)$/.test(
    code,
  );
}
