import { Fault } from "../values/fault.ts";
import type { SqlFacts } from "./instance.ts";
import type { Installation } from "./options.ts";
import type { Postmaster } from "./postmaster.ts";
import { prepareProbe, probe } from "./probe.ts";
import { destroySql, localTarget, openSql, queryFault, sqlState, type SqlClient } from "./sql.ts";

/** What the running server answered. */
export interface Answer {
  /** False while it lets nobody in: it starts or stops, or it is silent. A refusal in its own words is an answer. */
  readonly accepting: boolean;
  readonly sql: SqlFacts | null;
  /** Why there are no facts, in the server's own words. */
  readonly problem: string | null;
}

/** The server says it is not ready yet (starting, recovering) or no more (stopping). */
const cannotConnectNow = "57P03";

/**
 * The one connection that stays open to the local server: asks the monitoring query, and tells the postmaster's watch of
 * its own end, which is how the death of an adopted postmaster is noticed at once.
 */
export class Monitor {
  readonly #at: Installation;
  readonly #postmaster: Postmaster;
  #client: SqlClient | null = null;
  #running: Promise<Answer> | null = null;

  constructor(at: Installation, postmaster: Postmaster) {
    this.#at = at;
    this.#postmaster = postmaster;
  }

  /** Asks; callers at the same time share one answer. Takes at most about twice the probe's limit. */
  async ask(): Promise<Answer> {
    this.#running ??= this.#ask().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  /** Ends the connection. */
  close(): void {
    const client = this.#client;
    this.#client = null;
    if (client !== null) destroySql(client);
  }

  async #ask(): Promise<Answer> {
    try {
      const client = (this.#client ??= await this.#connect());
      return { accepting: true, sql: await probe(client), problem: null };
    } catch (error) {
      this.close();
      const fault = error instanceof Fault ? error : queryFault(error);
      const state = sqlState(fault);
      return {
        accepting: state !== null && state !== cannotConnectNow,
        sql: null,
        problem: fault.detail ?? fault.message,
      };
    }
  }

  async #connect(): Promise<SqlClient> {
    const { probeMs, connectMs } = this.#at.timeouts;
    const target = localTarget(this.#at, probeMs);
    const client = await openSql({ ...target, connectMs: Math.min(connectMs, probeMs) });
    client.on("end", () => {
      if (this.#client === client) this.#client = null;
      this.#postmaster.disconnected();
    });
    try {
      await prepareProbe(client);
    } catch (error) {
      destroySql(client);
      throw queryFault(error);
    }
    this.#postmaster.connected();
    return client;
  }
}
