import type { Action, Decision } from "../cluster/action.ts";
import { decide } from "../cluster/decide.ts";
import type { DecisionRecord } from "../cluster/decision.ts";
import type { View } from "../cluster/view.ts";
import { keys } from "../dcs/layout.ts";
import type { PostgresFacts } from "../postgres/instance.ts";
import type { Timer } from "../system/timers.ts";
import { toFault, type Fault } from "../values/fault.ts";
import type { NodeName } from "../values/names.ts";
import { elapsedMs, type Instant, type WallTime } from "../values/time.ts";
import { Changes } from "./changes.ts";
import type { AgentContext } from "./context.ts";
import type { Executor } from "./execution.ts";
import { executors } from "./executors.ts";
import { GrayWatch } from "./gray.ts";
import { NodeNameClaim, nameInUse } from "./node-name.ts";
import { buildView } from "./observe.ts";
import type { RecordKeeper } from "./record.ts";
import type { Upkeep } from "./upkeep.ts";

/** Without a wake-up a round is made this often: the safety net, not the way changes are noticed. */
const tickMs = 1000;

/** Actions that are a steady state: nothing to execute, nothing to record. */
const steady: ReadonlySet<Action["kind"]> = new Set(["wait", "lead", "alarm"]);
/** Actions whose success does not mean that what was wrong is over. */
const looking: ReadonlySet<Action["kind"]> = new Set(["ballot", "examine"]);

/**
 * The agent's loop: observe everything, decide once, act once, sleep or be woken. Work that takes longer than a moment runs
 * beside the loop, one at a time; only fencing interrupts it.
 */
export class Agent {
  readonly #context: AgentContext;
  readonly #record: RecordKeeper;
  readonly #upkeep: Upkeep;
  readonly #changes: Changes;
  readonly #gray: GrayWatch;
  readonly #onRound: () => void;
  #facts: PostgresFacts | null = null;
  #view: View | null = null;
  #decision: Decision | null = null;
  #lastRound: Instant;
  #recorded = "";
  #running = true;
  #named = false;
  #cannotWrite = false;
  #woken = false;
  #sleeping: { readonly timer: Timer; readonly resume: () => void } | null = null;
  #publishing = false;
  #republish = false;
  #fatal: Fault | null = null;

  constructor(context: AgentContext, record: RecordKeeper, upkeep: Upkeep, onRound: () => void) {
    this.#context = context;
    this.#record = record;
    this.#upkeep = upkeep;
    this.#changes = new Changes(context);
    this.#gray = new GrayWatch(context);
    this.#onRound = onRound;
    this.#lastRound = context.clock.now();
  }

  /** What the last round found; null before the first. */
  get facts(): PostgresFacts | null {
    return this.#facts;
  }
  get view(): View | null {
    return this.#view;
  }
  get decision(): Decision | null {
    return this.#decision;
  }
  get lastRound(): Instant {
    return this.#lastRound;
  }
  /** Whether the last round saw that no PostgreSQL here can write, and that nothing is under way that could change it. */
  get cannotWrite(): boolean {
    return this.#cannotWrite;
  }

  /** Asks for a round now: a hint. */
  wake(): void {
    this.#woken = true;
    this.#sleeping?.resume();
  }

  /** Ends the loop after the current round. */
  stop(): void {
    this.#running = false;
    this.wake();
  }

  /** Runs until stopped. @throws Fault NODE_NAME_IN_USE when another agent acts under this name */
  async run(): Promise<void> {
    await this.#waitForName();
    while (this.#running) {
      this.#woken = false;
      try {
        await this.#round();
      } catch (thrown) {
        const fault = toFault(thrown);
        this.#context.log("error", "round.failed", {
          code: fault.code,
          message: fault.message,
          stack: fault.stack,
        });
      }
      if (this.#fatal !== null) throw this.#fatal;
      await this.#sleep();
    }
  }

  /** Until this node's name is known to be its own, PostgreSQL is only looked at, and the lease is not touched. */
  async #waitForName(): Promise<void> {
    const { mirror, instance, clock, keeper, notebook } = this.#context;
    const name = new NodeNameClaim(this.#context);
    const since = clock.now();
    while (this.#running) {
      this.#woken = false;
      const facts = await instance.inspect();
      this.#facts = facts;
      this.#lastRound = clock.now();
      const record = this.#record.build(facts);
      this.#onRound();
      if (mirror.state !== null && (await name.attempt(record))) {
        this.#named = true;
        keeper.open();
        return;
      }
      // Whoever ends the agent meanwhile does not wait for a name: the rounds carry that out, and write nothing.
      if (notebook.request?.request.kind === "shutdown") return;
      if (elapsedMs(since, clock.now()) > this.#context.settings().ttlMs) await this.#endUnleased(facts);
      await this.#sleep();
    }
  }

  /** No lease that an agent before this one held can still run: a primary must not either (P2), guard or not. */
  async #endUnleased(facts: PostgresFacts): Promise<void> {
    if (facts.kind !== "running" || !facts.ours || facts.sql?.inRecovery !== false) return;
    const { instance, journal, log } = this.#context;
    try {
      const ms = Math.round(await instance.kill());
      const message = "PostgreSQL was ended: no lease could be renewed since the agent started";
      journal.event("fenced", true, message, { ms });
    } catch (thrown) {
      log("error", "act.failed", { action: "fence", ...toFault(thrown).report() });
    }
  }

  async #round(): Promise<void> {
    const { clock, secrets, mirror, notebook } = this.#context;
    const shared = mirror.entry(keys.secrets);
    if (shared !== undefined) await secrets.adopt(shared.value);
    const wasIdle = notebook.operation === null;
    const facts = await this.#gray.inspect();
    this.#facts = facts;
    const view = buildView(this.#context, facts);
    this.#view = view;
    const decision = decide(view);
    this.#decision = decision;
    this.#changes.notice(view);
    this.#gray.notice(view);
    this.#watchName();
    this.#act(decision, view);
    const readOnly =
      facts.kind === "empty" ||
      (facts.kind === "stopped" && !facts.remnants) ||
      (facts.kind === "running" && facts.sql?.inRecovery === true);
    this.#cannotWrite = readOnly && wasIdle && notebook.operation === null;
    if (decision.action.kind === "lead" || decision.action.kind === "follow") this.#upkeep.tend(facts);
    if (decision.action.kind === "lead") this.#context.durability.tend();
    this.#record.build(facts);
    this.#publish();
    this.#lastRound = clock.now();
    this.#onRound();
  }

  #watchName(): void {
    const { mirror, options, keeper } = this.#context;
    const record = mirror.state?.nodes.get(options.node)?.value;
    if (record === undefined || record.nodeId === options.nodeId || keeper.standing().kind === "mine") return;
    if (record.sequence > 0 && this.#record.hasWritten) this.#fatal = nameInUse(this.#context, record);
  }

  #act(decision: Decision, view: View): void {
    const { notebook, journal } = this.#context;
    const { action } = decision;
    if (action.kind === "alarm") {
      const { code, message, detail = null, hint = null } = action;
      // What went wrong the last time says more than that it went wrong again.
      const cause = code === "CLONE_FAILED" ? notebook.problem : null;
      const problem = cause ?? { code, message, detail, hint };
      if (notebook.problem?.message !== problem.message)
        journal.event("problem", false, problem.message, { code: problem.code });
      notebook.problem = problem;
    } else if (
      action.kind === "lead" ||
      (action.kind === "follow" && view.postgres.kind === "running" && view.postgres.streaming)
    ) {
      if (notebook.problem !== null) journal.event("problem_solved", true, notebook.problem.message);
      notebook.problem = null;
      notebook.succeeded("rejoin", "recovery");
    }
    const noted = this.#note(decision, view);
    if (steady.has(action.kind) || this.#isSettled(action, view)) return;
    if (!this.#running) return; // a round that was under way when the agent was told to end
    if (notebook.operation !== null) {
      const urgent = action.kind === "fence" || action.kind === "step-down";
      if (!urgent || notebook.operation.kind === action.kind) return;
      notebook.operation.abort.abort();
    }
    this.#begin(decision, noted ?? this.#context.clock.wall());
  }

  /** A standby that is already pointed where it should be, or has measured and only waits for its report to be seen. */
  #isSettled(action: Action, view: View): boolean {
    const { ballot, upstream } = this.#context.notebook;
    if (action.kind === "ballot")
      return (
        ballot?.token === action.token &&
        ballot.recordVersion === view.cluster?.durability.version &&
        upstream === null
      );
    return (
      action.kind === "follow" &&
      (view.postgres.kind === "running" || view.postgres.kind === "starting") &&
      upstream === action.upstream &&
      ballot === null &&
      !this.#mayProve(action.upstream, view)
    );
  }

  /** Whether it is time to prove (again) that this standby is the leader's descendant (S5). */
  #mayProve(upstream: NodeName | null, view: View): boolean {
    const { proven } = this.#context.notebook;
    if (upstream === null || view.standing.kind !== "other" || view.standing.lease.holder !== upstream)
      return false;
    const { token, state, origin } = view.standing.lease;
    if (proven?.leader === upstream && proven.token === token) return false;
    // A leader that resumes has nothing to prove it against before it serves.
    if (state !== "serving" && origin === null) return false;
    return view.postgres.kind === "running" && this.#context.notebook.backoff("prove").waitMs === 0;
  }

  /** Keeps a decision for `pgherd explain` when it is a new one. @returns its time; null = it is not */
  #note(decision: Decision, view: View): WallTime | null {
    const { options, clock, journal } = this.#context;
    const essence = `${decision.rule} ${decision.action.kind}`;
    const worth =
      !steady.has(decision.action.kind) || decision.action.kind === "alarm" || decision.rule.startsWith("E-");
    if (essence === this.#recorded || !worth || this.#isSettled(decision.action, view)) {
      if (worth || decision.action.kind === "lead") this.#recorded = essence;
      return null;
    }
    this.#recorded = essence;
    const at = clock.wall();
    const record: DecisionRecord = {
      at,
      node: options.node,
      rule: decision.rule,
      summary: decision.summary,
      action: decision.action.kind,
      why: decision.why,
      facts: { ...viewFacts(view), ...decision.facts },
      outcome: null,
    };
    journal.decision(record);
    return at;
  }

  #begin(decision: Decision, at: WallTime): void {
    const { notebook, clock, journal, log, settings } = this.#context;
    const abort = new AbortController();
    const started = clock.now();
    const operation = {
      kind: decision.action.kind,
      step: decision.action.kind,
      doneBytes: null as number | null,
      totalBytes: null as number | null,
      startedAt: clock.wall(),
      abort,
    };
    notebook.operation = operation;
    const step = (name: string, doneBytes: number | null = null, totalBytes: number | null = null): void => {
      if (notebook.operation !== operation && notebook.operation?.abort !== abort) return;
      notebook.operation = { ...operation, step: name, doneBytes, totalBytes };
      this.wake();
    };
    log("info", "act", { action: decision.action.kind, rule: decision.rule, why: decision.why });
    const run = executors[decision.action.kind] as Executor<Action>;
    void run({ context: this.#context, action: decision.action, decision, signal: abort.signal, step })
      .then(
        () => {
          const ms = Math.round(elapsedMs(started, clock.now()));
          journal.finish(at, { ok: true, ms, message: null });
          if (!looking.has(decision.action.kind)) notebook.problem = null;
        },
        (thrown: unknown) => {
          const fault = toFault(thrown);
          const ms = Math.round(elapsedMs(started, clock.now()));
          journal.finish(at, { ok: false, ms, message: fault.message });
          log("error", "act.failed", {
            action: decision.action.kind,
            code: fault.code,
            message: fault.message,
            detail: fault.detail,
            ...(fault.code === "INTERNAL" && { stack: fault.stack }),
          });
          // What will pass by itself within a moment is no problem for a person.
          if (
            !fault.code.startsWith("DCS_") &&
            fault.code !== "LOST_LEADERSHIP" &&
            fault.code !== "GRANT_REFUSED"
          )
            notebook.problem = fault.report();
          if (decision.action.kind === "claim-bootstrap" || decision.action.kind === "bootstrap")
            notebook.failed("start", 1000, settings().ttlMs * 2);
        },
      )
      .finally(() => {
        if (notebook.operation?.abort === abort) notebook.operation = null;
        this.wake();
      });
  }

  /** Writes the record beside the loop, one write at a time. */
  #publish(): void {
    if (!this.#named) return;
    if (this.#publishing) {
      this.#republish = true;
      return;
    }
    this.#publishing = true;
    void this.#record.publish().finally(() => {
      this.#publishing = false;
      if (!this.#republish) return;
      this.#republish = false;
      this.#publish();
    });
  }

  /** Until the next wake-up or tick; not at all when one came during the round. */
  #sleep(): Promise<void> {
    if (this.#woken || !this.#running) return Promise.resolve();
    return new Promise((resolve) => {
      const resume = (): void => {
        this.#sleeping?.timer.cancel();
        this.#sleeping = null;
        resolve();
      };
      this.#sleeping = { timer: this.#context.timers.after(this.#untilNextMs(), resume), resume };
    });
  }

  /** Until something in the view changes by the mere passing of time, at most a tick. */
  #untilNextMs(): number {
    const standing = this.#view?.standing;
    if (standing?.kind === "other") {
      const suspicionMs = this.#context.suspicion.nextMs(this.#context.clock.now());
      return Math.max(5, Math.min(tickMs, standing.remainingMs + 1, suspicionMs + 1));
    }
    // What a grant holds back need not be looked at meanwhile.
    if (standing?.kind === "expired" && this.#view?.grant != null)
      return Math.max(5, Math.min(tickMs, this.#view.grant.forMs + 1));
    if (
      standing?.kind === "released" ||
      standing?.kind === "lost" ||
      standing?.kind === "expired" ||
      standing?.kind === "mine-lapsed"
    )
      return 50;
    const due = this.#view?.moveDueMs ?? null;
    if (due === null) return tickMs;
    return due > 0 ? Math.min(tickMs, due + 1) : 100;
  }
}

/** The facts every decision rests on, for the record. */
function viewFacts(view: View): Record<string, string | number | boolean | null> {
  const standing = view.standing;
  const postgres = view.postgres;
  return {
    lease: standing.kind,
    holder: "lease" in standing ? standing.lease.holder : null,
    token: "lease" in standing ? standing.lease.token : null,
    postgres: postgres.kind === "running" ? postgres.role : postgres.kind,
    timeline: "timeline" in postgres ? postgres.timeline : null,
    dcs: view.dcs.reachable,
    nodes: view.others.map((node) => `${node.record.name} ${node.record.state}`).join(", "),
  };
}
