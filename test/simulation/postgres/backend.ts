import type { SimProcess } from "../engine.ts";
import type { Server } from "./server.ts";
import type { Commit } from "./wal.ts";

/** What a session asked for: `on` waits for the standbys, `local` for the own disk, `off` for nothing. */
export type SynchronousCommit = "on" | "local" | "off";

/** The server's end of a client session. */
export class Backend {
  readonly process: SimProcess;
  readonly server: Server;
  readonly mode: SynchronousCommit;
  /** In the midst of a statement: then it outlives its postmaster for a while (P3). */
  busy = false;
  /** Waits for standbys now. */
  waiting = false;
  #answer: ((outcome: "done" | "cancelled" | "closed") => void) | null = null;
  #commit: Commit | null = null;

  constructor(server: Server, mode: SynchronousCommit) {
    this.server = server;
    this.mode = mode;
    this.process = server.postgres.host.spawn("backend");
    this.process.onDeath(() => {
      server.backends.delete(this);
      server.postgres.orphans.delete(this);
      server.sync.leave(this);
      this.#reply("closed");
    });
  }

  /** One transaction that takes `workMs` before it commits; `answer` is what the client is told. */
  execute(
    commit: Commit,
    bytes: number,
    workMs: number,
    answer: (outcome: "done" | "cancelled" | "closed") => void,
  ): void {
    this.busy = true;
    this.#answer = answer;
    this.#commit = commit;
    this.process.after(workMs, () => this.#write(commit, bytes));
  }

  #write(commit: Commit, bytes: number): void {
    const { server } = this;
    if (!server.insert(commit, bytes)) {
      this.end();
      return;
    }
    if (this.mode === "off") {
      server.flushLater();
      this.acknowledge();
      return;
    }
    const end = server.data.end;
    server.flush(this.process, () => {
      if (this.mode === "local") this.acknowledge();
      else server.sync.wait(this, end);
    });
  }

  /** The commit is done as far as this session asked for it. */
  acknowledge(): void {
    this.waiting = false;
    const commit = this.#commit;
    if (commit !== null) this.server.postgres.net.observer.acknowledged(this.server.node, this, commit);
    this.#reply("done");
  }

  /** The client cancels the wait: PostgreSQL answers with a warning and then success (F10). */
  cancelWait(): void {
    if (!this.waiting) return;
    this.server.sync.leave(this);
    this.waiting = false;
    this.#reply("cancelled");
  }

  #reply(outcome: "done" | "cancelled" | "closed"): void {
    const answer = this.#answer;
    this.#answer = null;
    this.#commit = null;
    this.busy = false;
    answer?.(outcome);
    // Without a postmaster a backend ends as soon as it has nothing to do.
    if (outcome !== "closed" && this.server.postgres.orphans.has(this)) this.end();
  }

  end(): void {
    this.process.kill();
  }
}
