import { diskProblem } from "../cluster/disk.ts";
import type { View } from "../cluster/view.ts";
import type { PostgresFacts } from "../postgres/instance.ts";
import type { AgentContext } from "./context.ts";

/** A look at PostgreSQL is bounded by its own limits (about 2 s); past this it waits for a disk that hangs. */
const inspectLimitMs = 4_000;
/** How often the disk is probed: a leader's standstill must be noticed soon, a standby's can wait. */
const leadingEveryMs = 2_000;
const followingEveryMs = 10_000;

/** Keeps rounds going when what they look at hangs, and tells of disks that take no writes. */
export class GrayWatch {
  readonly #context: AgentContext;
  #last: PostgresFacts | null = null;
  #looking: Promise<PostgresFacts> | null = null;
  #told: string | null = null;

  constructor(context: AgentContext) {
    this.#context = context;
  }

  /**
   * What PostgreSQL shows. When the look itself does not end (it reads files, through a pool of threads that a hung disk can
   * use up), the round goes on with what was seen last, as of a server that does not answer; one look is under way at most.
   */
  async inspect(): Promise<PostgresFacts> {
    const { instance, timers, log } = this.#context;
    this.#looking ??= instance.inspect().finally(() => {
      this.#looking = null;
    });
    if (this.#last === null) return (this.#last = await this.#looking);
    const looking = this.#looking;
    const facts = await new Promise<PostgresFacts | null>((resolve, reject) => {
      const limit = timers.after(inspectLimitMs, () => resolve(null));
      looking.finally(() => limit.cancel()).then(resolve, reject);
    });
    if (facts !== null) return (this.#last = facts);
    log("warn", "postgres.look_hangs", { limit_ms: inspectLimitMs });
    return this.#last.kind === "running"
      ? { ...this.#last, accepting: false, sql: null, sqlProblem: "it could not be looked at" }
      : this.#last;
  }

  /** After a look: what is known of the disk becomes the node's problem, and tells when a lapse is over. */
  notice(view: View): void {
    const { disk, keeper, notebook, journal } = this.#context;
    disk.every(view.standing.kind === "mine" ? leadingEveryMs : followingEveryMs);
    const problem = diskProblem(view.disk);
    if (problem?.code !== this.#told) {
      if (problem !== null)
        journal.event("problem", false, problem.message, { code: problem.code, detail: problem.detail });
      else if (notebook.diskProblem !== null)
        journal.event("problem_solved", true, notebook.diskProblem.message);
      this.#told = problem?.code ?? null;
    }
    notebook.diskProblem = problem;
    const { kind } = view.standing;
    if (keeper.lapsing && kind !== "mine" && kind !== "mine-lapsed") keeper.lapse(false);
    // Only a PostgreSQL that is dead, on a disk that does not hang any more, may go on under the old lease.
    if (keeper.lapsing && view.operation === null && view.disk.kind !== "stalled" && isDead(view))
      keeper.lapse(false);
  }
}

function isDead(view: View): boolean {
  const { postgres } = view;
  return postgres.kind === "stopped" ? !postgres.remnants : postgres.kind === "empty";
}
