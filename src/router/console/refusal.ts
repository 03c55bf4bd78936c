/** Why the console refuses a command: sent as an ERROR with its SQLSTATE and what to do instead. */
export class Refusal extends Error {
  /** SQLSTATE, five characters. */
  readonly code: string;
  readonly hint: string | null;

  constructor(code: string, message: string, hint: string | null = null) {
    super(message);
    this.name = "Refusal";
    this.code = code;
    this.hint = hint;
  }
}
