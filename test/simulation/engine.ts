/** The simulator's time: a heap of events, run one after the other, with all promises settled in between. */

/** Something that happens later; `run` is null once it was cancelled. */
export interface SimEvent {
  readonly at: number;
  readonly order: number;
  run: (() => void) | null;
}

export class Engine {
  /** True time in milliseconds since the beginning; the hosts' clocks are derived from it. */
  now = 0;
  /** Events run so far. */
  count = 0;
  readonly #heap: SimEvent[] = [];
  #order = 0;
  #stopped = false;

  /** Runs `run` after `ms` milliseconds of true time. */
  after(ms: number, run: () => void): SimEvent {
    if (!Number.isFinite(ms)) throw new Error(`a delay of ${ms} ms`);
    const event: SimEvent = { at: this.now + Math.max(0, ms), order: (this.#order += 1), run };
    this.#push(event);
    return event;
  }

  /** Ends `run` after the current event. */
  stop(): void {
    this.#stopped = true;
  }

  /**
   * Runs events until `until`. After each one all promises are settled before the next begins: so the code under test sees
   * the same order every time. @throws whatever an event throws
   */
  run(until: number): Promise<void> {
    const { setImmediate } = globalThis;
    const restore = forbidAmbient();
    // A turn of node's own loop: promises cannot be settled from within one that is being settled.
    return new Promise<void>((resolve, reject) => {
      setImmediate(() => {
        try {
          this.#runNow(until);
          resolve();
        } catch (thrown) {
          reject(thrown instanceof Error ? thrown : new Error(String(thrown)));
        }
      });
    }).finally(restore);
  }

  #runNow(until: number): void {
    for (;;) {
      const event = this.#pop();
      if (event === undefined || event.at > until || this.#stopped) {
        if (event !== undefined) this.#push(event);
        this.now = Math.max(this.now, this.#stopped ? this.now : until);
        return;
      }
      this.now = event.at;
      this.count += 1;
      event.run?.();
      settlePromises();
    }
  }

  #push(event: SimEvent): void {
    const heap = this.#heap;
    let index = heap.length;
    heap.push(event);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const above = heap[parent]!;
      if (!before(event, above)) break;
      heap[index] = above;
      index = parent;
    }
    heap[index] = event;
  }

  /** The next event that was not cancelled. */
  #pop(): SimEvent | undefined {
    for (;;) {
      const event = this.#take();
      if (event?.run !== null) return event;
    }
  }

  #take(): SimEvent | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let index = 0;
    for (;;) {
      let child = index * 2 + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child += 1;
      const below = heap[child]!;
      if (!before(below, last)) break;
      heap[index] = below;
      index = child;
    }
    heap[index] = last;
    return first;
  }
}

/** What node itself calls between two turns of its loop: carries out ticks and microtasks until none is left. */
const settlePromises = (process as unknown as { readonly _tickCallback: () => void })._tickCallback;

/** Time and chance that do not come from the simulation. A run is one turn of node's own loop: nobody else needs them meanwhile. */
const ambient: readonly (readonly [object, string])[] = [
  [globalThis, "setTimeout"],
  [globalThis, "setInterval"],
  [globalThis, "setImmediate"],
  [Math, "random"],
  [Date, "now"],
];

/** Makes their use an error. @returns what allows it again */
function forbidAmbient(): () => void {
  const before = ambient.map(([owner, name]) => Reflect.get(owner, name) as unknown);
  for (const [owner, name] of ambient)
    Reflect.set(owner, name, () => {
      throw new Error(`${name} was used in the simulation`);
    });
  return () => ambient.forEach(([owner, name], index) => Reflect.set(owner, name, before[index]));
}

function before(a: SimEvent, b: SimEvent): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

/** A process of the operating system: what is meant for it is lost when it is dead, and waits while it is frozen. */
export class SimProcess {
  readonly name: string;
  readonly #engine: Engine;
  #alive = true;
  #frozen = 0;
  #held: (() => void)[] = [];
  readonly #onDeath: (() => void)[] = [];

  constructor(engine: Engine, name: string) {
    this.#engine = engine;
    this.name = name;
  }

  get alive(): boolean {
    return this.#alive;
  }
  get frozen(): boolean {
    return this.#frozen > 0;
  }

  /** Hands the process something that has arrived: a message, a timer, the end of a disk write. */
  deliver(run: () => void): void {
    if (!this.#alive) return;
    if (this.#frozen > 0) this.#held.push(run);
    else run();
  }

  /** Runs `run` in this process after `ms` of true time. */
  after(ms: number, run: () => void): SimEvent {
    return this.#engine.after(ms, () => this.deliver(run));
  }

  kill(): void {
    if (!this.#alive) return;
    this.#alive = false;
    this.#held = [];
    for (const listener of this.#onDeath.splice(0)) listener();
  }

  onDeath(listener: () => void): void {
    this.#onDeath.push(listener);
  }

  freeze(): void {
    this.#frozen += 1;
  }

  /** What came meanwhile is handed over now, in its order. */
  resume(): void {
    if (this.#frozen === 0) return;
    this.#frozen -= 1;
    if (this.#frozen > 0) return;
    for (const run of this.#held.splice(0)) this.#engine.after(0, () => this.deliver(run));
  }
}
