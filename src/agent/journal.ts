import type { ClusterEvent, DecisionRecord, EventName } from "../cluster/decision.ts";
import type { Clock } from "../system/clock.ts";
import type { NodeName } from "../values/names.ts";
import type { WallTime } from "../values/time.ts";
import type { Journal, Log } from "./context.ts";
import type { StreamItem } from "./service.ts";
import type { StateFiles } from "./state-files.ts";

const keptInMemory = 500;
const journalFile = "journal.jsonl";

/**
 * Decisions and events: the last ones in memory, all of them in the record `journal.jsonl` of the state directory. Writing never holds up a decision; a disk that cannot be written costs the record, not the act.
 */
export class AgentJournal implements Journal {
  readonly #files: StateFiles;
  readonly #node: NodeName;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #listeners = new Set<(item: StreamItem) => void>();
  #decisions: DecisionRecord[] = [];
  #events: ClusterEvent[] = [];
  #queue: Promise<void> = Promise.resolve();
  #queued = 0;

  constructor(files: StateFiles, node: NodeName, clock: Clock, log: Log) {
    this.#files = files;
    this.#node = node;
    this.#clock = clock;
    this.#log = log;
  }

  /** Reads what an earlier agent of this node recorded. */
  async load(): Promise<void> {
    const lines = await this.#files.lines(journalFile).catch(() => []);
    for (const line of lines) this.#recall(line);
    this.#trim();
  }

  decision(record: DecisionRecord): void {
    this.#decisions.push(record);
    this.#keep({ kind: "decision", decision: record });
  }

  finish(at: WallTime, outcome: NonNullable<DecisionRecord["outcome"]>): void {
    const index = this.#decisions.findLastIndex((record) => record.at === at);
    const record = this.#decisions[index];
    if (record === undefined) return;
    const finished = { ...record, outcome };
    this.#decisions[index] = finished;
    this.#keep({ kind: "decision", decision: finished });
  }

  event(event: EventName, success: boolean, message: string, facts: ClusterEvent["facts"] = {}): void {
    const item: ClusterEvent = { at: this.#clock.wall(), node: this.#node, event, success, message, facts };
    this.#events.push(item);
    this.#log(success ? "info" : "warn", `event.${event}`, { message, ...facts });
    this.#keep({ kind: "event", event: item });
  }

  decisions(limit: number): readonly DecisionRecord[] {
    return this.#decisions.slice(-limit);
  }

  events(limit: number): readonly ClusterEvent[] {
    return this.#events.slice(-limit);
  }

  subscribe(listener: (item: StreamItem) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Tells listeners that the status changed. */
  announce(): void {
    for (const listener of this.#listeners) listener({ kind: "status" });
  }

  /** Resolves when everything recorded so far is in the file. */
  async flush(): Promise<void> {
    await this.#queue;
  }

  #keep(item: StreamItem): void {
    this.#trim();
    for (const listener of this.#listeners) listener(item);
    if (this.#queued >= keptInMemory) return;
    this.#queued += 1;
    this.#queue = this.#queue
      .then(() => this.#files.append(journalFile, JSON.stringify(item)))
      .catch((thrown: unknown) => this.#log("debug", "journal.write_failed", { message: String(thrown) }))
      .finally(() => (this.#queued -= 1));
  }

  #recall(line: string): void {
    if (line === "") return;
    try {
      const item = JSON.parse(line) as StreamItem;
      if (item.kind === "event") this.#events.push(item.event);
      else if (item.kind === "decision") {
        const index = this.#decisions.findIndex((known) => known.at === item.decision.at);
        if (index >= 0) this.#decisions[index] = item.decision;
        else this.#decisions.push(item.decision);
      }
    } catch {
      // A line cut short by a crash.
    }
  }

  #trim(): void {
    this.#decisions = this.#decisions.slice(-keptInMemory);
    this.#events = this.#events.slice(-keptInMemory);
  }
}
