import type { LeaseRecord } from "../cluster/records.ts";
import type { FencingToken } from "../values/names.ts";
import type { Lsn } from "../values/lsn.ts";
import { elapsedMs, type Instant } from "../values/time.ts";
import type { AgentContext, AgentOptions } from "./context.ts";

/** What looking at a leader takes; an agent and a WAL receiver have it alike. */
export type SuspicionParts = Pick<
  AgentContext,
  "clock" | "timers" | "peers" | "mirror" | "settings" | "wake"
> & { readonly options: Pick<AgentOptions, "node"> };

/** How long one look at the leader may take. */
const lookMs = 250;
/** Two looks in a row must be in vain. */
const betweenMs = 100;

/**
 * Whether this node has lost sight of the leader (F7): no renewal, no WAL, and neither its agent nor its PostgreSQL answers
 * when asked, for `suspect_after`. Only silence is asked after: a healthy leader is heard by its renewals.
 */
export class Suspicion {
  readonly #context: SuspicionParts;
  #token: FencingToken | null = null;
  #tokenSince: Instant | null = null;
  #renewal = -1;
  #received: Lsn | null = null;
  #heard: Instant | null = null;
  #silentLooks = 0;
  #looking = false;

  constructor(context: SuspicionParts) {
    this.#context = context;
  }

  /** The token whose holder this node has lost; null = none. */
  get suspects(): FencingToken | null {
    const { suspectAfterMs } = this.#context.settings();
    const { clock } = this.#context;
    if (this.#token === null || this.#heard === null || suspectAfterMs === 0) return null;
    const silent = elapsedMs(this.#heard, clock.now());
    return silent >= suspectAfterMs && this.#silentLooks >= 2 ? this.#token : null;
  }

  /** Milliseconds since the leader was last heard in any way. */
  silentMs(now: Instant): number {
    return this.#heard === null ? 0 : elapsedMs(this.#heard, now);
  }

  /** Milliseconds since this node first saw the token it watches. */
  tokenSeenMs(now: Instant): number {
    return this.#tokenSince === null ? 0 : elapsedMs(this.#tokenSince, now);
  }

  /** Takes in what a round saw; asks the leader when it has been silent. */
  observe(lease: LeaseRecord | null, received: Lsn | null): void {
    const { clock, options } = this.#context;
    const now = clock.now();
    if (lease === null || lease.holder === options.node || lease.state !== "serving") {
      this.#token = null;
      this.#heard = null;
      return;
    }
    if (lease.token !== this.#token) {
      this.#token = lease.token;
      this.#tokenSince = now;
      this.#hear(now);
    }
    if (lease.renewal !== this.#renewal) this.#hear(now);
    if (received !== null && this.#received !== null && received > this.#received) this.#hear(now);
    this.#renewal = lease.renewal;
    this.#received = received;
    void this.#lookIfSilent(lease, now);
  }

  /** Milliseconds until a look is due or the silence is long enough; for the loop's sleep. */
  nextMs(now: Instant): number {
    const { suspectAfterMs } = this.#context.settings();
    if (this.#heard === null || suspectAfterMs === 0) return Infinity;
    const silent = elapsedMs(this.#heard, now);
    const patience = this.#patienceMs();
    if (silent < patience) return patience - silent;
    return silent < suspectAfterMs ? Math.min(suspectAfterMs - silent, 100) : Infinity;
  }

  #hear(now: Instant): void {
    this.#heard = now;
    this.#silentLooks = 0;
  }

  /** Longer than a healthy leader is silent between two renewals, and early enough for two looks. */
  #patienceMs(): number {
    const { ttlMs, suspectAfterMs } = this.#context.settings();
    const looksMs = 2 * lookMs + betweenMs;
    return Math.max(0, Math.min((ttlMs / 5) * 1.3, suspectAfterMs - looksMs));
  }

  async #lookIfSilent(lease: LeaseRecord, now: Instant): Promise<void> {
    const { settings, peers, mirror, wake, timers, clock } = this.#context;
    if (this.#looking || this.#heard === null || settings().suspectAfterMs === 0) return;
    if (elapsedMs(this.#heard, now) < this.#patienceMs()) return;
    const node = mirror.state?.nodes.get(lease.holder)?.value;
    if (node === undefined) return;
    this.#looking = true;
    const heardBefore = this.#heard;
    try {
      const answered = await anyOf([
        peers.pulse(node, lookMs).then((pulse) => pulse !== null),
        peers.answersPostgres(node, lookMs),
      ]);
      if (answered) this.#hear(clock.now());
      else if (this.#heard === heardBefore) this.#silentLooks += 1;
      await timers.sleep(answered ? lookMs : betweenMs);
    } finally {
      this.#looking = false;
      wake();
    }
  }
}

/** Whether one of them is true; as soon as one is. */
function anyOf(answers: readonly Promise<boolean>[]): Promise<boolean> {
  return new Promise((resolve) => {
    let open = answers.length;
    for (const answer of answers)
      void answer
        .catch(() => false)
        .then((yes) => {
          open -= 1;
          if (yes) resolve(true);
          else if (open === 0) resolve(false);
        });
  });
}
