import type { Lsn } from "../../values/lsn.ts";
import type { WallTime } from "../../values/time.ts";
import type { ServerWord } from "../replication/wal-stream.ts";

/**
 * A message is stamped after the server looked where its WAL ends, and a commit takes its time before it is durable there:
 * at most this much later it is acknowledged. With `synchronous_commit = off` that is three times `wal_writer_delay`.
 */
const marginMs = 1_000;

/** Until when, by the server's own clock, every commit it acknowledged is durable here: of one stream from the leader. Pure. */
export class Completeness {
  /** The oldest word of the server that has not all arrived, and the newest. */
  #oldest: ServerWord | null = null;
  #newest: ServerWord | null = null;
  /** A keepalive tells the end of what was sent, which may lie before the end told with the data. */
  #end = 0n as Lsn;
  #until: number | null = null;

  /** null = not known yet. */
  get until(): WallTime | null {
    return this.#until === null ? null : (new Date(this.#until - marginMs).toISOString() as WallTime);
  }

  /** The server said where its WAL ends, when that much is durable here. */
  heard({ end, sentAt }: ServerWord, flushed: Lsn): void {
    if (end > this.#end) this.#end = end;
    this.#newest = { end: this.#end, sentAt };
    this.#oldest ??= this.#newest;
    this.flushed(flushed);
  }

  /** What is durable here has grown. */
  flushed(lsn: Lsn): void {
    if (this.#newest !== null && this.#newest.end <= lsn) {
      this.#until = this.#newest.sentAt;
      this.#oldest = this.#newest = null;
    } else if (this.#oldest !== null && this.#oldest.end <= lsn) {
      this.#until = this.#oldest.sentAt;
      this.#oldest = this.#newest;
    }
  }
}
