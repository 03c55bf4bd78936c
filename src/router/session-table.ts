import type { PinnedExample, PinnedSessions } from "../cluster/records.ts";
import type { NodeName } from "../values/names.ts";
import type { Session } from "./session.ts";
import type { NodeTraffic } from "./console/source.ts";
import { type NodeCounters, type PinReason, pinReasons, type SessionView } from "./sessions.ts";

/** Examples in a report of pinned sessions, in all. */
const mostExamples = 20;

/** Combinations of reasons that are told apart. */
const mostReasons = 20;

/** The sessions of a router. */
export class SessionTable implements Iterable<Session> {
  readonly #sessions = new Map<number, Session>();
  readonly #given = new Map<NodeName, number>();
  readonly #counters = new Map<NodeName, NodeCounters>();

  [Symbol.iterator](): Iterator<Session> {
    return this.#sessions.values();
  }

  get size(): number {
    return this.#sessions.size;
  }

  add(session: Session): void {
    this.#sessions.set(session.client.id, session);
  }

  remove(id: number): void {
    this.#sessions.delete(id);
  }

  find(id: number): Session | undefined {
    return this.#sessions.get(id);
  }

  /** A session was put on a node. */
  gave(node: NodeName): void {
    this.#given.set(node, (this.#given.get(node) ?? 0) + 1);
  }

  /** How many sessions are on a node, how many ever were put there, and what they did. */
  on(node: NodeName): NodeTraffic {
    let sessions = 0;
    for (const session of this) if (session.node === node) sessions += 1;
    return { sessions, given: this.#given.get(node) ?? 0, ...this.counters(node) };
  }

  /** What its sessions do on a node, for them to count in. */
  counters(node: NodeName): NodeCounters {
    const known = this.#counters.get(node) ?? { transactions: 0, queries: 0, selects: 0 };
    this.#counters.set(node, known);
    return known;
  }

  *views(): Generator<SessionView> {
    for (const session of this) yield session.view();
  }

  /** The sessions a move would cut, by what pins them: each counts once, one with several reasons under all of them together. */
  pinned(): PinnedSessions[] {
    const found = new Map<string, { count: number; examples: PinnedExample[] }>();
    let examples = 0;
    for (const session of this) {
      const pins = session.pins();
      if (pins.length === 0) continue;
      const { user, database, application, address } = session.view();
      const together = inOrder(pins).join(", ");
      const reason = found.has(together) || found.size < mostReasons ? together : (pins[0] ?? "");
      const entry = found.get(reason) ?? { count: 0, examples: [] };
      found.set(reason, entry);
      entry.count += 1;
      if (examples >= mostExamples) continue;
      examples += 1;
      entry.examples.push({ user, database, application, address });
    }
    const rank = (reason: string): number => pinReasons.findIndex((known) => reason.startsWith(known));
    return [...found]
      .map(([reason, entry]) => ({ reason, ...entry }))
      .sort((a, b) => rank(a.reason) - rank(b.reason) || a.reason.length - b.reason.length);
  }
}

function inOrder(pins: readonly PinReason[]): PinReason[] {
  return pinReasons.filter((reason) => pins.includes(reason));
}
