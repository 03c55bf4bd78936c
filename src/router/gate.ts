import type { Log } from "../agent/context.ts";
import type { GateAnswer, GateOrder, MovedSessions } from "../cluster/records.ts";
import type { Clock } from "../system/clock.ts";
import type { Timer, Timers } from "../system/timers.ts";
import type { Route } from "./backend.ts";
import type { SessionTable } from "./session-table.ts";
import type { Session } from "./session.ts";
import type { Instant } from "../values/time.ts";
import type { PrimaryRoute, Topology } from "./topology.ts";

/** A gate is void this long after its drain: whoever wrote it is gone (safety: nothing waits for ever). */
const gateLimitMs = 15_000;
/** Sessions that cannot be looked at within this time of the warm-up are looked at when they are held. */
const warmLimitMs = 3_000;
/** How many sessions are put on the new primary at once: its caches are cold. */
const opening = 32;

/** What the gate needs. */
export interface GateOptions {
  readonly table: SessionTable;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  /** The answer has changed: it belongs into the router's record, at once. */
  readonly onAnswer: () => void;
}

/** A planned move as this router goes through it. */
interface Passage {
  readonly order: GateOrder;
  readonly route: Route;
  phase: "warm" | "hold";
  /** When clients began to be held. */
  heldAt: Instant | null;
  /** What the last answer said. */
  answer: GateAnswer;
  /** The phase's own time is over. */
  late: boolean;
  timer: Timer | null;
  readonly limit: Timer;
}

/**
 * Takes the sessions of the primary through a planned move: prepares them on the candidate, holds them, and lets them go on
 * where the primary is afterwards; on the old one when the move is off.
 */
export class Gate {
  readonly #options: GateOptions;
  #passage: Passage | null = null;
  #voided: string | null = null;
  #topology: Topology | null = null;
  readonly #waiting = new Set<() => void>();
  #looking = false;
  #moved: MovedSessions | null = null;

  constructor(options: GateOptions) {
    this.#options = options;
  }

  /** How it stands with the gate; null = there is none. */
  get answer(): GateAnswer | null {
    return this.#passage?.answer ?? null;
  }

  /** How the last move went that was gone through; null = none. */
  get moved(): MovedSessions | null {
    return this.#moved;
  }

  /** Whether no session may be put on the primary now. */
  get closed(): boolean {
    return this.#passage?.phase === "hold";
  }

  /** Resolves as soon as the gate is open, or the signal aborts. */
  async opened(signal: AbortSignal): Promise<void> {
    if (!this.closed || signal.aborted) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        signal.removeEventListener("abort", done);
        this.#waiting.delete(done);
        resolve();
      };
      this.#waiting.add(done);
      signal.addEventListener("abort", done, { once: true });
    });
  }

  /** The cluster has changed. */
  follow(now: Topology): void {
    this.#topology = now;
    const passage = this.#passage;
    const order = this.#valid(now);
    if (passage !== null && order?.id !== passage.order.id) this.#leave(passage, now);
    if (order === null) return;
    if (this.#passage === null) this.#enter(order, now);
    if (this.#passage !== null && order.phase === "hold" && this.#passage.phase === "warm")
      this.#hold(this.#passage);
  }

  /** A session has come to another point; many such calls are one look. */
  progressed(): void {
    if (this.#looking || this.#passage === null) return;
    this.#looking = true;
    this.#options.timers.after(0, () => {
      this.#looking = false;
      this.#look();
    });
  }

  /** A session was put on a server while the gate was being worked at. */
  joined(session: Session): void {
    const passage = this.#passage;
    if (passage === null || !session.writes || session.move !== null) return;
    if (session.node !== passage.order.from) return;
    if (passage.phase === "hold") session.hold(passage.route);
    else void session.warm(passage.route);
  }

  /** The gate that holds: none of a token that is not the latest, and none whose time is over. */
  #valid(now: Topology): GateOrder | null {
    const { gate, highestToken } = now;
    if (gate === null || gate.id === this.#voided) return null;
    return gate.token >= (highestToken ?? 0) ? gate : null;
  }

  #enter(order: GateOrder, now: Topology): void {
    const to = now.standbys.find(({ node }) => node === order.to);
    if (to === undefined) {
      this.#options.log("warn", "gate.unknown_candidate", { to: order.to });
      return;
    }
    const { timers } = this.#options;
    const limit = timers.after(gateLimitMs + order.drainMs, () => this.#expire(order));
    const route: Route = { node: to.node, host: to.host, port: to.port, token: null };
    const answer = {
      id: order.id,
      phase: "warm",
      state: "working",
      ready: 0,
      pinned: 0,
      busy: 0,
      message: null,
    } as const;
    const passage: Passage = {
      order,
      route,
      phase: "warm",
      heldAt: null,
      answer,
      late: false,
      timer: null,
      limit,
    };
    this.#passage = passage;
    this.#options.log("info", "gate.warm", { from: order.from, to: order.to });
    passage.timer = timers.after(warmLimitMs, () => {
      passage.late = true;
      this.#look();
    });
    for (const session of this.#concerned(passage)) void session.warm(route).then(() => this.progressed());
    this.#look();
  }

  #hold(passage: Passage): void {
    const { timers } = this.#options;
    passage.phase = "hold";
    passage.heldAt = this.#options.clock.now();
    passage.late = false;
    passage.timer?.cancel();
    passage.timer = timers.after(passage.order.drainMs, () => void this.#drained(passage));
    for (const session of this.#concerned(passage)) session.hold(passage.route);
    this.#options.log("info", "gate.hold", { to: passage.order.to });
    this.#look();
  }

  /** The time for transactions to end is over. */
  async #drained(passage: Passage): Promise<void> {
    if (this.#passage !== passage) return;
    if (passage.order.stragglers === "cancel") {
      const busy = this.#concerned(passage).filter((session) => !session.held);
      await Promise.all(busy.map((session) => session.cancelStraggler()));
    }
    passage.late = true;
    this.#look();
  }

  /** Sessions that write to the old primary, or wait for it. */
  #concerned(passage: Passage): Session[] {
    const { from } = passage.order;
    return [...this.#options.table].filter(
      (session) =>
        session.move !== null || (session.writes && (session.node === null || session.node === from)),
    );
  }

  #look(): void {
    const passage = this.#passage;
    if (passage === null) return;
    const { order, phase, late } = passage;
    let [ready, pinned] = [0, 0];
    const stragglers: Session[] = [];
    for (const session of this.#concerned(passage)) {
      const { move } = session;
      // Who has no server at all is in nobody's way.
      const there = phase === "warm" || session.held || session.client.replication || session.node === null;
      // A session that is not let in yet waits in front of the gate.
      if (session.node === null && move === null) continue;
      if (move === null || move.working || move.verdict === null || !there) stragglers.push(session);
      else if (move.verdict === "ready") ready += 1;
      else pinned += 1;
    }
    const busy = stragglers.length;
    const state = this.#state(phase, busy, late);
    const message = state === "failed" ? stragglersText(stragglers, order.drainMs) : null;
    const answer: GateAnswer = { id: order.id, phase, state, ready, pinned, busy, message };
    if (JSON.stringify(answer) === JSON.stringify(passage.answer)) return;
    passage.answer = answer;
    this.#options.onAnswer();
  }

  #state(phase: "warm" | "hold", busy: number, late: boolean): GateAnswer["state"] {
    if (busy === 0) return "done";
    if (!late) return "working";
    // Who is inside a long transaction is looked at when it ends; the warm-up does not wait for it.
    return phase === "warm" ? "done" : "failed";
  }

  #expire(order: GateOrder): void {
    if (this.#passage?.order.id !== order.id) return;
    this.#options.log("warn", "gate.expired", { id: order.id });
    this.#voided = order.id;
    if (this.#topology !== null) this.follow(this.#topology);
  }

  /** The order is gone, void, or another one. */
  #leave(passage: Passage, now: Topology): void {
    const moved = (now.highestToken ?? 0) > passage.order.token;
    const expired = this.#voided === passage.order.id;
    // Somebody else leads, or is about to: until it serves, everybody waits.
    if (moved && now.primary === null && !expired) return;
    passage.timer?.cancel();
    passage.limit.cancel();
    this.#passage = null;
    if (moved && now.primary !== null) void this.#finish(now.primary, passage);
    else {
      this.#options.log("info", "gate.open", { towards: passage.order.from });
      for (const session of this.#options.table) if (session.move !== null) session.release();
    }
    this.#options.onAnswer();
    for (const wake of [...this.#waiting]) wake();
  }

  /** First come, first served; a bounded number at once. */
  async #finish(primary: PrimaryRoute, { order, heldAt }: Passage): Promise<void> {
    const { clock, table, log } = this.#options;
    const started = clock.now();
    const { node, host, port, token } = primary;
    const route: Route = { node, host, port, token };
    const all = [...table].filter((session) => session.move !== null);
    const pinned = new Set(all.filter((session) => session.move?.verdict === "pinned"));
    const queue = [...all];
    const worker = async (): Promise<void> => {
      for (let session = queue.shift(); session !== undefined; session = queue.shift())
        await session.finish(route);
    };
    await Promise.all(Array.from({ length: opening }, worker));
    const now = clock.now();
    const carried = all.filter(
      (session) => !pinned.has(session) && table.find(session.client.id) === session,
    ).length;
    const heldMs = Math.round(now - (heldAt ?? started));
    this.#moved = { id: order.id, heldMs, carried, cut: all.length - carried };
    log("info", "gate.passed", {
      node,
      sessions: carried,
      cut: all.length - carried,
      ms: Math.round(now - started),
    });
    this.#options.onAnswer();
  }
}

/** How many sessions of a message are named. */
const named = 3;

/** `2 sessions did not come to rest within 3 s: app "batch" of app from 10.0.0.40, in a transaction for 12 s; ...`. */
function stragglersText(sessions: readonly Session[], drainMs: number): string {
  const what = sessions.slice(0, named).map((session) => {
    const { user, application, address, state, stateMs } = session.view();
    const who = application === "" ? user : `"${application}" of ${user}`;
    const doing = state === "transaction" ? "in a transaction" : state;
    return `${who} from ${address}, ${doing} for ${Math.round(stateMs / 1000)} s`;
  });
  const more = sessions.length > named ? [`${sessions.length - named} more`] : [];
  const count = `${sessions.length} ${sessions.length === 1 ? "session" : "sessions"}`;
  return `${count} did not come to rest within ${drainMs / 1000} s (${[...what, ...more].join("; ")})`;
}

/** A session's place after a change of the cluster, where no gate is in the way (F6, F9). */
export function followPrimary(session: Session, now: Topology): void {
  const { route } = session;
  if (route === null) return;
  const { primary, highestToken } = now;
  if (route.token === null) {
    // A standby that was promoted: whoever reads there can write from now on.
    if (primary?.node === route.node) session.adopt(primary.token);
    return;
  }
  const highest = highestToken ?? route.token;
  if (primary !== null && primary.node === route.node && primary.token >= highest) {
    if (primary.token > route.token) session.adopt(primary.token);
    return;
  }
  const superseded = highest > route.token || (primary !== null && primary.node !== route.node);
  if (superseded && session.move?.hold !== true)
    session.supersede(primary === null ? null : { ...route, node: primary.node, token: primary.token });
}
