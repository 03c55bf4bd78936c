/** A text that must not be seen: prints and serialises as stars. `reveal()` is the only way to it. */
export class Secret {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  /** The text itself, for the one place that must send it. */
  reveal(): string {
    return this.#text;
  }

  toString(): string {
    return "********";
  }

  toJSON(): string {
    return "********";
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return "********";
  }
}
