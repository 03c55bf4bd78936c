import { routerAwayMs } from "../cluster/policy.ts";
import type { GateAnswer, GateOrder, RouterRecord } from "../cluster/records.ts";
import { encodeRecord, keys } from "../dcs/layout.ts";
import { Fault, toFault } from "../values/fault.ts";
import type { NodeName } from "../values/names.ts";
import { elapsedMs } from "../values/time.ts";
import { dcsTimeoutMs, type AgentContext } from "./context.ts";

/** How long a router may take until it says anything about a gate, and until its connections on the candidate stand. */
const answerMs = 5_000;
const warmMs = 12_000;
/** On top of the drain: for the answer to come here. */
const answerMarginMs = 1_000;
/** How often the answers are looked at, in memory. */
const lookMs = 10;

/** What the routers said before PostgreSQL is stopped. */
export interface GateReport {
  readonly carried: number;
  /** Sessions that will be cut. */
  readonly cut: number;
  /** Routers that did not answer: their sessions are cut too. */
  readonly silent: readonly string[];
}

/** The routers that live, by name. */
export function liveRouters(context: AgentContext): readonly RouterRecord[] {
  const { mirror, clock } = context;
  const now = clock.now();
  return [...(mirror.state?.routers.values() ?? [])]
    .map((router) => router.value)
    .filter((router) => mirror.routerHeardMs(router.name, now) <= routerAwayMs)
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/**
 * A planned move as the routers see it: prepared while clients go on (`warm`), then held (`hold`). Without routers nothing
 * is written. Whatever ends the move takes the gate away, and the routers open towards whoever serves.
 */
export class RouterGate {
  readonly #context: AgentContext;
  readonly #to: NodeName;
  readonly #id: string;
  readonly #routers: readonly string[];
  #answering: readonly string[] = [];

  private constructor(context: AgentContext, to: NodeName, routers: readonly string[]) {
    this.#context = context;
    this.#to = to;
    // The request's, so that who asked for the move finds what the routers tell of it.
    this.#id = context.mirror.state?.move.value?.id ?? context.random.uuid();
    this.#routers = routers;
  }

  /** null = no router lives. */
  static of(context: AgentContext, to: NodeName): RouterGate | null {
    const routers = liveRouters(context).map((router) => router.name);
    return routers.length === 0 ? null : new RouterGate(context, to, routers);
  }

  /** The routers connect to the candidate and inspect their sessions; clients notice nothing. @throws Fault SWITCHOVER_SESSIONS_BUSY */
  async warm(signal: AbortSignal): Promise<void> {
    await this.#write("warm");
    const isSilent = (name: string): boolean => this.#answer(name, "warm") === null;
    await this.#until(signal, answerMs, () => !this.#routers.some(isSilent));
    this.#answering = this.#routers.filter((name) => !isSilent(name));
    const silent = this.#routers.filter(isSilent);
    if (silent.length > 0) this.#context.log("warn", "gate.silent", { routers: silent, phase: "warm" });
    await this.#until(signal, warmMs, () => this.#answering.every((name) => this.#isOver(name, "warm")));
    this.#refuse(this.#answering.filter((name) => this.#answer(name, "warm")?.state !== "done"));
  }

  /**
   * Clients are held at their next movable point, within the drain. @returns what the routers carry.
   * @throws Fault SWITCHOVER_SESSIONS_BUSY when sessions did not get there and the settings say that this ends the move
   */
  async hold(signal: AbortSignal): Promise<GateReport> {
    await this.#write("hold");
    const { switchoverDrainMs, switchoverStragglers } = this.#context.settings();
    const isOver = (name: string): boolean => this.#isOver(name, "hold");
    await this.#until(
      signal,
      switchoverDrainMs + answerMarginMs,
      () => this.#answering.every(isOver) || this.#answering.some((name) => this.#hasFailed(name)),
    );
    const undone = this.#answering.filter((name) => this.#answer(name, "hold")?.state !== "done");
    if (switchoverStragglers === "abort") this.#refuse(undone);
    const answers = this.#answering.map((name) => this.#answer(name, "hold"));
    return {
      carried: answers.reduce((sum, answer) => sum + (answer?.ready ?? 0), 0),
      cut: answers.reduce((sum, answer) => sum + (answer?.pinned ?? 0) + (answer?.busy ?? 0), 0),
      silent: this.#routers.filter((name) => this.#answer(name, "hold") === null),
    };
  }

  /** The move is given up: the routers go on where they were. A gate that stays is void by its age, so nothing is thrown. */
  async open(): Promise<void> {
    await openGate(this.#context, (gate) => gate.id === this.#id);
  }

  #answer(name: string, phase: GateOrder["phase"]): GateAnswer | null {
    const answer = this.#context.mirror.state?.routers.get(name)?.value.gate ?? null;
    return answer?.id === this.#id && answer.phase === phase ? answer : null;
  }

  #isOver(name: string, phase: GateOrder["phase"]): boolean {
    const state = this.#answer(name, phase)?.state;
    return state === "done" || state === "failed";
  }

  #hasFailed(name: string): boolean {
    return this.#answer(name, "hold")?.state === "failed";
  }

  #refuse(routers: readonly string[]): void {
    if (routers.length === 0) return;
    const { state } = this.#context.mirror;
    const lines = routers.map((name) =>
      sessionsText(name, state?.routers.get(name)?.value.gate ?? null, this.#id),
    );
    throw new Fault(
      "SWITCHOVER_SESSIONS_BUSY",
      `The routers could not hold every session for the move to ${this.#to}: ${lines.join("; ")}.`,
      {
        detail: "Nothing was changed: the routers let their clients go on.",
        hint: "Repeat the switchover when they have ended, or raise switchover_drain.",
      },
    );
  }

  async #write(phase: GateOrder["phase"]): Promise<void> {
    const { mirror, keeper, options, settings, clock, dcs } = this.#context;
    const standing = keeper.standing();
    if (standing.kind !== "mine") throw new Fault("LOST_LEADERSHIP", "This node does not lead any more.");
    const { switchoverDrainMs, switchoverStragglers, ttlMs } = settings();
    const gate: GateOrder = {
      id: this.#id,
      from: options.node,
      to: this.#to,
      token: standing.lease.token,
      phase,
      stragglers: switchoverStragglers,
      drainMs: switchoverDrainMs,
      at: clock.wall(),
    };
    const result = await dcs.transact(
      {
        checks: [{ key: keys.gate, version: mirror.state?.gate.version ?? 0 }],
        writes: [{ key: keys.gate, value: encodeRecord(gate) }],
      },
      dcsTimeoutMs(ttlMs),
    );
    if (result.outcome === "conflict")
      throw new Fault("DCS_CONFLICT", "The gate of the routers changed at the same moment.", {
        hint: "Repeat the switchover.",
      });
    // The next write compares this one's version: it has to be seen here first.
    await this.#until(null, dcsTimeoutMs(ttlMs), () => mirror.state?.gate.value?.phase === phase);
  }

  /** Waits until it is so, at most so long. @throws Fault LOST_LEADERSHIP when the work was ended meanwhile */
  async #until(signal: AbortSignal | null, limitMs: number, isSo: () => boolean): Promise<void> {
    const { clock, timers } = this.#context;
    const started = clock.now();
    while (!isSo() && elapsedMs(started, clock.now()) < limitMs) {
      if (signal?.aborted === true)
        throw new Fault("LOST_LEADERSHIP", "The lease was lost while the routers were waited for.");
      await timers.sleep(lookMs);
    }
  }
}

/** `r1: 3 sessions are busy`, or what the router itself says of it. */
function sessionsText(name: string, answer: GateAnswer | null, id: string): string {
  if (answer?.id !== id) return `${name} did not answer`;
  return `${name}: ${answer.message ?? `${answer.busy} ${answer.busy === 1 ? "session is" : "sessions are"} busy`}`;
}

/** Takes the gate away, if it is one of those. What fails is logged: a gate that stays is void by its age. */
async function openGate(context: AgentContext, isMeant: (gate: GateOrder) => boolean): Promise<void> {
  const { mirror, dcs, settings, log } = context;
  const gate = mirror.state?.gate;
  if (gate?.value == null || !isMeant(gate.value)) return;
  try {
    await dcs.transact(
      {
        checks: [{ key: keys.gate, version: gate.version }],
        writes: [{ key: keys.gate, value: null }],
      },
      dcsTimeoutMs(settings().ttlMs),
    );
  } catch (thrown) {
    log("warn", "gate.not_opened", { ...toFault(thrown).report() });
  }
}

/** A gate that was left behind by an agent that died over it: whoever leads and moves nothing takes it away. */
export async function openStaleGate(context: AgentContext): Promise<void> {
  if (context.notebook.operation === null) await openGate(context, () => true);
}
