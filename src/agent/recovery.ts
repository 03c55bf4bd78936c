import type { RecoveryRecord } from "../cluster/records.ts";
import { recoveryOf } from "../cluster/recovery.ts";
import { highestTimeline } from "../cluster/state.ts";
import { encodeRecord, keys } from "../dcs/layout.ts";
import { Fault, toFault, type FaultReport } from "../values/fault.ts";
import { lsnDistance, parseLsn } from "../values/lsn.ts";
import { nextTimeline, parseTimeline } from "../values/names.ts";
import { elapsedMs, instantAfter, type Instant, type WallTime } from "../values/time.ts";
import { preparedFile } from "./act-recovery.ts";
import { dcsTimeoutMs, type AgentContext } from "./context.ts";
import { recoveryWrite } from "./recovery-record.ts";
import { wishedTargetText } from "./restore-port.ts";
import type { RestoreDone, RestoreStep, RestoreSummary, RestoreWish, WishedState } from "./restore-port.ts";
import { archiveOf } from "./restores.ts";

/** What a recovery of the whole cluster would do. */
export interface RecoveryPlan {
  readonly node: string;
  readonly restore: RestoreSummary;
  /** Bytes of WAL written after the state wanted, up to now; null = not known. */
  readonly lostBytes: number | null;
  readonly standbys: readonly string[];
}

/** The last recovery, with how far it is. */
export interface RecoveryPicture {
  readonly record: RecoveryRecord;
  /** Of what runs on this node; null = nothing does. */
  readonly step: RestoreStep | null;
}

/** The whole cluster back to an earlier state: asked of its leader. */
export interface RecoveryService {
  /** @throws Fault as `start`; nothing is changed */
  plan(state: WishedState, jobs: number): Promise<RecoveryPlan>;
  /**
   * Begins one. The cluster goes on serving until the state is restored and proven beside its data; then it leaves its line.
   * @throws Fault NO_LEADER, CLUSTER_PAUSED, OPERATION_RUNNING, REQUEST_INVALID, BACKUP_*, DATA_DIR_*, DISK_FULL
   */
  start(state: WishedState, jobs: number): Promise<RecoveryPicture>;
  /** null = there never was one. */
  last(): RecoveryPicture | null;
  /** Calls it off, as long as the cluster is on its old line. @throws Fault NOT_FOUND */
  cancel(): Promise<RecoveryPicture>;
}

const retryMs = 3000;
const mostTries = 20;
const nothingChanged = "Nothing was changed.";

/** What was asked for, as it stands in the record. */
interface KeptWish {
  readonly state: WishedState;
  readonly jobs: number;
}

/** This agent's end of a recovery: restores beside its own data while it leads, and says so in the record. */
export class ClusterRecovery implements RecoveryService {
  readonly #context: AgentContext;
  #working: { readonly id: string; readonly ending: AbortController } | null = null;
  #step: RestoreStep | null = null;
  /** The recovery after which a base backup was asked for. */
  #asked: string | null = null;
  /** When what may pass by itself is tried again, and how often it was. */
  #notBefore: Instant | null = null;
  #tries = 0;

  constructor(context: AgentContext) {
    this.#context = context;
  }

  async plan(state: WishedState, jobs: number): Promise<RecoveryPlan> {
    const { archive, options, mirror } = this.#context;
    this.#refuseUnlessLeader();
    if (state.target.kind === "latest")
      throw new Fault("REQUEST_INVALID", "The whole cluster goes back to a state: which one?", {
        hint: "Give one of --time, --lsn, --xid, --name, --immediate.",
      });
    const work = { kind: "plan", wish: await this.#wish({ state, jobs }, 0) } as const;
    const watch = { signal: new AbortController().signal, onStep: () => undefined };
    const restore = await archive.restore(archiveOf(this.#context), work, watch);
    const own = mirror.state?.nodes.get(options.node)?.value.lsn ?? null;
    const until = restore.lastTransactionLsn === null ? null : (parseLsn(restore.lastTransactionLsn) ?? null);
    return {
      node: options.node,
      restore,
      lostBytes: own === null || until === null ? null : lsnDistance(own, until),
      standbys: [...(mirror.state?.nodes.keys() ?? [])].filter((name) => name !== options.node).sort(),
    };
  }

  async start(state: WishedState, jobs: number): Promise<RecoveryPicture> {
    await this.plan(state, jobs);
    const { mirror, keeper, clock, random, options, settings, journal } = this.#context;
    const before = await mirror.refresh(dcsTimeoutMs(settings().ttlMs));
    this.#refuseUnlessLeader();
    const timeline = nextTimeline(highestTimeline(before));
    const now = clock.wall();
    const record: RecoveryRecord = {
      id: random.uuid(),
      node: options.node,
      phase: "preparing",
      target: wishedTargetText(state.target, (time) => `time ${time}`),
      wish: JSON.stringify({ state, jobs } satisfies KeptWish),
      timeline,
      startedAt: now,
      updatedAt: now,
      reached: null,
      left: null,
      problem: null,
    };
    // The number is the recovery's from here on, whatever becomes of it (I4).
    const done = await keeper.change((lease) => ({ ...lease, reservedTimeline: timeline }), {
      checks: [{ key: keys.recovery, version: before.recovery?.version ?? 0 }],
      writes: [{ key: keys.recovery, value: encodeRecord(record) }],
    });
    if (!done) throw new Fault("DCS_CONFLICT", "The record of the recovery changed at the same moment");
    journal.event("recovery_started", true, `the cluster is restored to ${record.target}`, {
      id: record.id,
      timeline,
    });
    await mirror.refresh(dcsTimeoutMs(settings().ttlMs));
    this.tend();
    return { record, step: this.#step };
  }

  last(): RecoveryPicture | null {
    const record = recoveryOf(this.#context.mirror.state);
    return record === null ? null : { record, step: this.#step };
  }

  async cancel(): Promise<RecoveryPicture> {
    const record = recoveryOf(this.#context.mirror.state);
    if (record === null || (record.phase !== "preparing" && record.phase !== "prepared"))
      throw new Fault("NOT_FOUND", "No recovery is under way that could be called off");
    const idle = this.#working === null;
    this.#working?.ending.abort();
    const fault = new Fault("BACKUP_CANCELLED", "The recovery was called off").report();
    await this.#change(record, { phase: "failed", problem: fault });
    // A try that is under way takes its own away when it has ended.
    if (idle) await this.#discard();
    return this.last() ?? { record, step: null };
  }

  /** Begins what is to be done; called by every round of a leader, returns at once. */
  tend(): void {
    const { mirror, options, keeper, notebook, clock } = this.#context;
    const record = recoveryOf(mirror.state);
    if (record === null) return;
    const under = record.phase === "preparing" || record.phase === "prepared";
    if (under && record.node !== options.node) {
      // Its restored state lies beside the data of a leader that is none any more.
      const fault = new Fault("LOST_LEADERSHIP", `${record.node} does not lead any more`, {
        hint: "Nothing was changed: ask for it again.",
      });
      this.#inBackground(() => this.#change(record, { phase: "failed", problem: fault.report() }));
      return;
    }
    if (record.phase === "done" && record.node === options.node) this.#askForBackup(record);
    const missing = record.phase === "prepared" && notebook.prepared !== record.id;
    const due = this.#notBefore === null || elapsedMs(clock.now(), this.#notBefore) <= 0;
    if (this.#working === null && due && under && (record.phase === "preparing" || missing))
      this.#inBackground(() => this.#prepare(record));
    if (!under && record.phase !== "switching" && notebook.prepared !== null) {
      notebook.prepared = null;
      this.#inBackground(() => this.#discard());
    }
    if (this.#working !== null && (keeper.standing().kind !== "mine" || !under)) this.#working.ending.abort();
  }

  close(): void {
    this.#working?.ending.abort();
  }

  /** Restores beside the own data; a killed try is gone on with. */
  async #prepare(record: RecoveryRecord): Promise<void> {
    const { archive, files, notebook, journal, log } = this.#context;
    const ending = new AbortController();
    this.#working = { id: record.id, ending };
    try {
      const wish = await this.#wish(JSON.parse(record.wish) as KeptWish, record.timeline);
      const work = { kind: "cluster", wish, timeline: record.timeline } as const;
      const onStep = (step: RestoreStep): void => {
        this.#step = step;
        if (this.#context.keeper.standing().kind !== "mine") ending.abort();
      };
      const done = await archive.restore(archiveOf(this.#context), work, { signal: ending.signal, onStep });
      const reached = reachedOf(done);
      await files.write(preparedFile, record.id);
      notebook.prepared = record.id;
      await this.#change(record, { phase: "prepared", reached });
      journal.event("recovery_prepared", true, `${record.target} is restored beside the data`, {
        reached: reached?.time ?? null,
        ms: Math.round(done.copyMs + (done.reached?.ms ?? 0)),
      });
    } catch (thrown) {
      const fault = toFault(thrown);
      log("warn", "recovery.failed", { ...fault.report() });
      // The process of an agent before this one may still be ending; a backup server may be away for a moment.
      if (fault.retrySafe || fault.code === "BACKUP_TARGET_IN_USE") {
        this.#tries += 1;
        this.#notBefore = instantAfter(this.#context.clock.now(), retryMs);
        if (this.#tries < mostTries && !ending.signal.aborted) return;
      }
      // Without the lease nothing can be said about it: whoever leads does.
      if (this.#context.keeper.standing().kind === "mine") await this.#fail(record, fault.report());
    } finally {
      this.#working = null;
      this.#step = null;
      this.#context.wake();
    }
  }

  /** What was restored is of no use any more. */
  async #discard(): Promise<void> {
    await this.#context.files.remove(preparedFile);
    await this.#context.instance.prepared?.discard();
  }

  async #fail(record: RecoveryRecord, problem: FaultReport): Promise<void> {
    const now = recoveryOf(this.#context.mirror.state);
    if (now?.id !== record.id || now.phase === "switching" || now.phase === "done") return;
    this.#tries = 0;
    if (now.phase !== "failed") await this.#change(now, { phase: "failed", problem });
    await this.#discard();
    this.#context.journal.event(
      "recovery_failed",
      false,
      `${problem.message}: the cluster goes on as it was`,
      {
        code: problem.code,
      },
    );
  }

  /** Changes the record as the holder of the lease. @throws Fault DCS_CONFLICT, LOST_LEADERSHIP */
  async #change(record: RecoveryRecord, change: Partial<RecoveryRecord>): Promise<void> {
    const { mirror, keeper, settings } = this.#context;
    const state = await mirror.refresh(dcsTimeoutMs(settings().ttlMs));
    const now = recoveryOf(state);
    if (now?.id !== record.id) throw new Fault("DCS_CONFLICT", "Another recovery was asked for meanwhile");
    const done = await keeper.change((lease) => lease, {
      checks: [{ key: keys.recovery, version: state.recovery?.version ?? 0 }],
      writes: [recoveryWrite(this.#context, now, change)],
    });
    if (!done) throw new Fault("DCS_CONFLICT", "The record of the recovery changed at the same moment");
    await mirror.refresh(dcsTimeoutMs(settings().ttlMs));
    this.#context.wake();
  }

  /** Once for a recovery that this agent has seen to its end: backups of the new line begin at once. */
  #askForBackup(record: RecoveryRecord): void {
    const fresh = Date.parse(this.#context.clock.wall()) - Date.parse(record.updatedAt) < 600_000;
    if (this.#asked === record.id || !fresh) return;
    this.#asked = record.id;
    this.#inBackground(async () => {
      await this.#context.archive.askForBackup(archiveOf(this.#context));
    });
  }

  #inBackground(work: () => Promise<unknown>): void {
    work().catch((thrown: unknown) =>
      this.#context.log("warn", "recovery.step_failed", { ...toFault(thrown).report() }),
    );
  }

  async #wish({ state, jobs }: KeptWish, timeline: number): Promise<RestoreWish> {
    const dir = await this.#context.instance.prepared?.place();
    if (dir === undefined) throw new Fault("DATA_DIR_NOT_WRITABLE", "Nothing can be restored here");
    return {
      ...state,
      dir,
      tablespaces: {},
      // Those of the old line stay where they are until nobody needs them.
      tablespacesBelow: `${dir.replace(/\.new$/, "")}.tablespaces-${timeline}`,
      // What an earlier try left there is taken over where it is right.
      delta: true,
      verify: false,
      jobs,
      start: null,
    };
  }

  #refuseUnlessLeader(): void {
    const { keeper, mirror, settings, options } = this.#context;
    const standing = keeper.standing();
    if (standing.kind !== "mine" || standing.lease.state !== "serving")
      throw new Fault("NO_LEADER", `${options.node} does not lead: a recovery is asked of the leader.`, {
        detail: `The leader is ${mirror.state?.lease.value?.holder ?? "nobody"}. ${nothingChanged}`,
        hint: "See `pgherd status`.",
      });
    if (settings().paused)
      throw new Fault("CLUSTER_PAUSED", "The cluster is paused.", {
        detail: nothingChanged,
        hint: "Run `pgherd resume` first.",
      });
    const recovery = recoveryOf(mirror.state);
    if (recovery !== null && recovery.phase !== "done" && recovery.phase !== "failed")
      throw new Fault("OPERATION_RUNNING", `The cluster is being restored to ${recovery.target}.`, {
        detail: `It is ${recovery.phase} since ${recovery.updatedAt}. ${nothingChanged}`,
        hint: "pgherd backup recover follows it, pgherd backup recover --cancel calls it off.",
      });
  }
}

function reachedOf({ reached }: RestoreDone): RecoveryRecord["reached"] {
  if (reached === null) return null;
  const [lsn, timeline] = [parseLsn(reached.lsn), parseTimeline(reached.timeline)];
  if (lsn === undefined || timeline === undefined) return null;
  return { lsn, timeline, time: reached.time as WallTime | null };
}
