/**
 * Why a call got no good answer, and what it means for a write:
 * unsent = it never reached the member; refused = the member answered that it did not do it; uncertain = it may have
 * been done. Only the last one matters to a caller who wants to try elsewhere.
 */
export interface CallFailure {
  readonly effect: "unsent" | "refused" | "uncertain";
  readonly cause: "network" | "timeout" | "overload" | "token" | "denied" | "request";
  /** For people, in the words of the system or of etcd. */
  readonly reason: string;
}

/** The answer to one call. */
export type CallResult =
  { readonly ok: true; readonly message: Buffer } | { readonly ok: false; readonly failure: CallFailure };

/** gRPC status codes by number (https://grpc.io/docs/guides/status-codes/). */
const status = {
  invalidArgument: 3,
  permissionDenied: 7,
  resourceExhausted: 8,
  failedPrecondition: 9,
  unimplemented: 12,
  unavailable: 14,
  unauthenticated: 16,
} as const;

/**
 * etcd answers these when the token is unknown to this member (it restarted), expired, the users changed, or
 * authentication was switched on meanwhile: a new login may help.
 */
const staleToken = /invalid auth token|revision of auth store is old|user name is empty/;
const refusedLogin = /authentication failed|permission denied/i;

/** What an answer with a gRPC status other than 0 means. */
export function failureOfStatus(code: number, text: string): CallFailure {
  const reason = text === "" ? `gRPC status ${code}` : text;
  if (staleToken.test(text)) return { effect: "refused", cause: "token", reason };
  if (refusedLogin.test(text)) return { effect: "refused", cause: "denied", reason };
  switch (code) {
    case status.unauthenticated:
      return { effect: "refused", cause: "token", reason };
    case status.permissionDenied:
      return { effect: "refused", cause: "denied", reason };
    case status.invalidArgument:
    case status.failedPrecondition:
    case status.unimplemented:
      return { effect: "refused", cause: "request", reason };
    case status.resourceExhausted:
      return { effect: "refused", cause: "overload", reason };
    case status.unavailable:
      // This one text is said before the request is looked at; the others may follow a proposal that still commits.
      return { effect: text === "etcdserver: no leader" ? "refused" : "uncertain", cause: "network", reason };
    default:
      return { effect: "uncertain", cause: "network", reason };
  }
}

/** What an error of the connection means. `connected` = the request may have left this host. */
export function failureOfError(error: unknown, connected: boolean): CallFailure {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const reason = error instanceof Error ? (error.message === "" ? code : error.message) : String(error);
  // A member that wants a client certificate says so by a TLS alert after the handshake is over on this side.
  if (code.startsWith("ERR_SSL_") && code.includes("ALERT"))
    return { effect: "unsent", cause: "denied", reason: `TLS: ${reason}` };
  return { effect: connected ? "uncertain" : "unsent", cause: "network", reason };
}

/** No answer in time. */
export function failureOfSilence(afterMs: number, connected: boolean): CallFailure {
  const reason = connected ? `no answer within ${afterMs} ms` : `no connection within ${afterMs} ms`;
  return { effect: connected ? "uncertain" : "unsent", cause: "timeout", reason };
}
