import type { PinnedExample, PinnedSessions } from "../cluster/records.ts";
import type { NodeName } from "../values/names.ts";
import type { Session } from "./session.ts";
import { type PinReason, pinReasons, type SessionView } from "./sessions.ts";

/** Examples in a report of pinned sessions, in all. */
const mostExamples = 20;

/** The sessions of a router. */
export class SessionTable implements Iterable<Session> {
  readonly #sessions = new Map<number, Session>();
  readonly #given = new Map<NodeName, number>();

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

  /** How many sessions are on a node, and how many ever were put there. */
  on(node: NodeName): { readonly sessions: number; readonly given: number } {
    let sessions = 0;
    for (const session of this) if (session.node === node) sessions += 1;
    return { sessions, given: this.#given.get(node) ?? 0 };
  }

  *views(): Generator<SessionView> {
    for (const session of this) yield session.view();
  }

  /** The sessions a move would cut, by reason: a session with several counts under each. */
  pinned(): PinnedSessions[] {
    const found = new Map<PinReason, { count: number; examples: PinnedExample[] }>();
    let examples = 0;
    for (const session of this) {
      const pins = session.pins();
      if (pins.length === 0) continue;
      const { user, database, application, address } = session.view();
      for (const pin of pins) {
        const entry = found.get(pin) ?? { count: 0, examples: [] };
        found.set(pin, entry);
        entry.count += 1;
        if (examples >= mostExamples) continue;
        examples += 1;
        entry.examples.push({ user, database, application, address });
      }
    }
    return pinReasons.flatMap((reason) => {
      const entry = found.get(reason);
      return entry === undefined ? [] : [{ reason, ...entry }];
    });
  }
}
