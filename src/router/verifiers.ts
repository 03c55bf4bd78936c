import type { Clock } from "../system/clock.ts";
import { deadline, type Timers } from "../system/timers.ts";
import { Refusal } from "./refusal.ts";

/** Where what PostgreSQL stores of passwords comes from: the agents. */
export interface VerifierSource {
  /**
   * @param user an unquoted role name; @param signal aborts when nobody waits any more
   * @returns rolpassword of pg_authid, such as `SCRAM-SHA-256$...` or `md5...`; null = no such role, or one without password
   * @throws nobody could be asked
   */
  find(user: string, signal: AbortSignal): Promise<string | null>;
}

/** How long one question may take. */
const answerMs = 3_000;
/** How long an old answer serves when nobody can be asked. Safe: PostgreSQL checks the recovered key again. */
const keptMs = 10 * 60_000;
/** Users whose answers are kept. */
const kept = 10_000;

interface Question {
  readonly answer: Promise<string | null>;
  sent: boolean;
}

/**
 * Asks for verifiers, many clients at once with one question. An answer only serves clients that came before the question
 * was sent, so a password changed in PostgreSQL is in force for whoever logs in afterwards; an older answer is used only
 * while no agent answers.
 */
export class Verifiers {
  readonly #source: VerifierSource;
  readonly #clock: Clock;
  readonly #timers: Timers;
  readonly #questions = new Map<string, Question[]>();
  readonly #known = new Map<string, { readonly verifier: string; readonly atMs: number }>();

  constructor(source: VerifierSource, clock: Clock, timers: Timers) {
    this.#source = source;
    this.#clock = clock;
    this.#timers = timers;
  }

  /** @throws {Refusal} nobody could be asked, and nothing is known from before */
  find(user: string): Promise<string | null> {
    const questions = this.#questions.get(user) ?? [];
    const last = questions.at(-1);
    if (last?.sent === false) return last.answer;
    const before = last?.answer ?? Promise.resolve();
    const question: Question = {
      sent: false,
      answer: before
        .catch(() => undefined)
        .then(() => {
          question.sent = true;
          return this.#ask(user);
        })
        .finally(() => {
          questions.shift();
          if (questions.length === 0) this.#questions.delete(user);
        }),
    };
    questions.push(question);
    this.#questions.set(user, questions);
    return question.answer;
  }

  async #ask(user: string): Promise<string | null> {
    const limit = deadline(this.#timers, answerMs);
    try {
      const verifier = await inTime(this.#source.find(user, limit.signal), limit.signal);
      this.#keep(user, verifier);
      return verifier;
    } catch (thrown) {
      const known = this.#known.get(user);
      if (known !== undefined && this.#clock.now() - known.atMs <= keptMs) return known.verifier;
      const why = thrown instanceof Error ? thrown.message : String(thrown);
      throw new Refusal(
        "57P03",
        "the router cannot check passwords at the moment",
        `No agent of the cluster answers: ${why}`,
      );
    } finally {
      limit.clear();
    }
  }

  #keep(user: string, verifier: string | null): void {
    this.#known.delete(user);
    if (verifier === null) return;
    this.#known.set(user, { verifier, atMs: this.#clock.now() });
    if (this.#known.size <= kept) return;
    const [oldest] = this.#known.keys();
    if (oldest !== undefined) this.#known.delete(oldest);
  }
}

/** A source that does not heed its signal does not hold anybody up either. */
function inTime<T>(answer: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => reject(new Error("no answer in time")), { once: true });
    answer.then(resolve, reject);
  });
}
