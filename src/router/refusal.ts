import { errorResponse } from "../pgwire/encode.ts";

/** Why a client is turned away, as it is told: FATAL with an SQLSTATE. No secrets. */
export class Refusal extends Error {
  override readonly name = "Refusal";
  readonly code: string;
  readonly detail: string | undefined;
  readonly hint: string | undefined;

  constructor(code: string, message: string, detail?: string, hint?: string) {
    super(message);
    this.code = code;
    this.detail = detail;
    this.hint = hint;
  }

  /** The ErrorResponse that says it. */
  packet(): Buffer {
    const { code, message, detail, hint } = this;
    return errorResponse({ severity: "FATAL", code, message, detail, hint });
  }
}
