import { Fault } from "../../values/fault.ts";
import type { CallFailure } from "./failure.ts";

const mostLogins = 3;

/**
 * What an attempt may do. A guarded write can take effect at most once, however often it is sent, so that it may be
 * repeated after an attempt without an answer; any other write may not.
 */
export type RequestKind = "read" | "guarded write" | "write";

/** What the attempts of one request have met so far, and the fault that follows from it. */
export class Attempts {
  readonly #kind: RequestKind;
  /** The latest failure of each endpoint. */
  readonly #failures = new Map<string, CallFailure>();
  #staleTokens = 0;
  /** How many attempts failed. */
  failed = 0;
  /** Whether one of them may have taken effect. */
  uncertain = false;

  constructor(kind: RequestKind) {
    this.#kind = kind;
  }

  /** @throws Fault when no further attempt can or may be made */
  note(endpoint: string, failure: CallFailure): void {
    this.failed += 1;
    this.#failures.set(endpoint, failure);
    if (failure.effect === "uncertain") {
      this.uncertain = true;
      if (this.#kind === "write") throw this.fault();
    }
    switch (failure.cause) {
      case "network":
      case "timeout":
        return;
      case "denied":
        // A single member with a wrong certificate must not shut out the others.
        if (failure.effect === "unsent") return;
        throw this.fault();
      case "token":
      case "overload":
      case "request":
        throw this.fault();
    }
  }

  /** @throws Fault DCS_DENIED when new logins do not help */
  noteStaleToken(endpoint: string, failure: CallFailure): void {
    this.#staleTokens += 1;
    if (this.#staleTokens >= mostLogins) this.note(endpoint, failure);
  }

  /** The fault to report when it ends here. */
  fault(extra?: string): Fault {
    const lines = [...this.#failures].map(([endpoint, { reason }]) => `${endpoint}: ${reason}`);
    const detail = [...lines, ...(extra === undefined ? [] : [extra])].join("; ");
    const parts = { detail: detail === "" ? "no time for an attempt" : detail };
    if (this.uncertain && this.#kind !== "read") return uncertainFault(parts.detail);
    const last = [...this.#failures.values()].at(-1);
    switch (last?.cause) {
      case "denied":
      case "token":
        return new Fault("DCS_DENIED", "etcd refuses access", {
          ...parts,
          hint: "Check username, password and client certificate in `dcs`, and the user's role in etcd",
        });
      case "request":
        return new Fault("INTERNAL", "etcd says that the request is wrong", parts);
      case "overload":
        return new Fault("DCS_UNREACHABLE", "etcd takes no more requests", {
          ...parts,
          hint: "When its space is exhausted: compact, defragment and disarm the alarm (etcdctl)",
        });
      case "network":
      case "timeout":
      case undefined:
        return new Fault("DCS_UNREACHABLE", "etcd does not answer", {
          ...parts,
          hint: "Check that etcd runs and has a quorum, and that the endpoints in `dcs` are right",
        });
    }
  }
}

/** A write whose outcome nobody knows. */
export function uncertainFault(detail: string): Fault {
  return new Fault("DCS_UNCERTAIN", "A write to etcd may or may not have taken effect", {
    detail,
    hint: "Read the records again before deciding anything",
  });
}
