/** Lets a bounded number of pieces of work run at once; the others wait in their order. */
export class Slots {
  readonly #most: number;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(most: number) {
    this.#most = most;
  }

  async run<Result>(work: () => Promise<Result>): Promise<Result> {
    if (this.#running >= this.#most) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#running += 1;
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      // A place is handed on, so that nobody who did not wait takes it in between.
      if (next === undefined) this.#running -= 1;
      else next();
    }
  }
}
