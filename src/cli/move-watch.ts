import type { ApiClient, RouterReport } from "../api/client.ts";
import type { ClusterStatus } from "../cluster/status.ts";
import type { MovePlan } from "../agent/service.ts";
import { elapsedMs, type Instant } from "../values/time.ts";
import type { CommandContext } from "./context.ts";
import { spanText } from "./render/quantity.ts";

const lookMs = 50;
/** How long the routers may take to tell how it went. */
const reportMs = 5_000;

/** What the steps of the old primary are called while a move runs. */
const shownSteps: ReadonlyMap<string, string> = new Map([
  ["checkpoint", "checkpoint"],
  ["routers prepare", "warm"],
  ["routers hold", "hold"],
  ["stopping", "stop"],
  ["reading the end of WAL", "stop"],
  ["releasing", "hand over"],
]);

/** The step a move is at; null = none of interest. */
function stepOf(status: ClusterStatus, plan: MovePlan): string | null {
  const on = (name: string | null): ClusterStatus["nodes"][number]["operation"] =>
    status.nodes.find((node) => node.name === name)?.operation ?? null;
  const taking = on(plan.to)?.kind;
  if (taking === "take-lease" || taking === "promote") return "promote";
  return shownSteps.get(on(plan.from)?.step ?? "") ?? null;
}

/** Shows on stderr which step a move is at, each with its time when the next one begins, until `done` settles. */
export async function showSteps(
  context: CommandContext,
  client: ApiClient,
  plan: MovePlan,
  done: Promise<unknown>,
): Promise<void> {
  const { io } = context;
  const ending = new AbortController();
  const end = (): void => ending.abort();
  const settled = done.then(end, end);
  const line = new StepLine(context);
  const isOver = (): boolean => ending.signal.aborted || io.interrupted.aborted;
  while (!isOver()) {
    const status = await client.status().catch(() => null);
    if (status !== null && !isOver()) line.at(stepOf(status, plan));
    await Promise.race([settled, io.timers.sleep(lookMs, io.interrupted)]);
  }
  line.end();
}

/** `  ✓ checkpoint 0.8 s  ✓ hold 0.1 s`, growing while it runs. */
class StepLine {
  readonly #context: CommandContext;
  #current: { readonly step: string; readonly since: Instant } | null = null;
  #shown = false;

  constructor(context: CommandContext) {
    this.#context = context;
  }

  at(step: string | null): void {
    if (step === null || step === this.#current?.step) return;
    this.#finish();
    this.#current = { step, since: this.#context.io.clock.now() };
  }

  end(): void {
    this.#finish();
    if (this.#shown) this.#context.io.stderr.write("\n");
  }

  #finish(): void {
    if (this.#current === null) return;
    const { io } = this.#context;
    const took = spanText(elapsedMs(this.#current.since, io.clock.now()));
    io.stderr.write(`  ${this.#context.look().paint("good", "✓")} ${this.#current.step} ${took}`);
    this.#current = null;
    this.#shown = true;
  }
}

/** What the routers tell of a move that is done; null = no router took part, or none told in time. */
export async function sessionsMoved(
  context: CommandContext,
  client: ApiClient,
  plan: MovePlan,
  id: string | null,
): Promise<MovedReport | null> {
  const routers = plan.sessions?.routers ?? [];
  if (routers.length === 0 || id === null) return null;
  const { timers, interrupted, clock } = context.io;
  const started = clock.now();
  for (;;) {
    const told = await client.routers().then(
      (reply) => reply.routers.filter((router) => routers.includes(router.name) && router.moved?.id === id),
      () => [],
    );
    const late = clock.now() - started > reportMs || interrupted.aborted;
    if (told.length === routers.length || late) return summed(told, plan, routers.length);
    await timers.sleep(2 * lookMs, interrupted);
  }
}

/** What a move was for the sessions in routers. */
export interface MovedReport {
  /** The longest any router held its clients. */
  readonly waited_ms: number;
  readonly carried: number;
  readonly cut: number;
  /** Of them so many as the plan said, at most. */
  readonly announced: number;
  /** Routers that told nothing of it. */
  readonly silent: number;
}

function summed(told: readonly RouterReport[], plan: MovePlan, all: number): MovedReport | null {
  if (told.length === 0) return null;
  const sum = (pick: (moved: NonNullable<RouterReport["moved"]>) => number): number =>
    told.reduce((total, { moved }) => total + (moved == null ? 0 : pick(moved)), 0);
  return {
    waited_ms: Math.max(...told.map(({ moved }) => moved?.held_ms ?? 0)),
    carried: sum((moved) => moved.carried),
    cut: sum((moved) => moved.cut),
    announced: (plan.sessions?.pinned ?? []).reduce((total, { count }) => total + count, 0),
    silent: all - told.length,
  };
}
