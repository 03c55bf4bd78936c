import { describe, expect, test } from "vitest";
import { Attempts } from "./attempts.ts";
import { failureOfError, failureOfSilence, failureOfStatus, type CallFailure } from "./failure.ts";

const one = "http://a:2379";
const two = "http://b:2379";

describe("what a status means for a write", () => {
  const cases: [number, string, CallFailure["effect"], CallFailure["cause"]][] = [
    [14, "etcdserver: no leader", "refused", "network"],
    [14, "etcdserver: request timed out", "uncertain", "network"],
    [14, "etcdserver: server stopped", "uncertain", "network"],
    [4, "context deadline exceeded", "uncertain", "network"],
    [16, "etcdserver: invalid auth token", "refused", "token"],
    [3, "etcdserver: user name is empty", "refused", "token"],
    [3, "etcdserver: revision of auth store is old", "refused", "token"],
    [3, "etcdserver: authentication failed, invalid user ID or password", "refused", "denied"],
    [7, "etcdserver: permission denied", "refused", "denied"],
    [3, "etcdserver: duplicate key given in txn request", "refused", "request"],
    [8, "etcdserver: mvcc: database space exceeded", "refused", "overload"],
    [2, "", "uncertain", "network"],
  ];
  test.each(cases)("status %i %s is %s for reasons of %s", (code, text, effect, cause) => {
    expect(failureOfStatus(code, text)).toMatchObject({ effect, cause });
  });

  test("without a connection nothing was sent", () => {
    expect(failureOfError(new Error("connect ECONNREFUSED"), false).effect).toBe("unsent");
    expect(failureOfError(new Error("read ECONNRESET"), true).effect).toBe("uncertain");
    expect(failureOfSilence(300, false).effect).toBe("unsent");
    expect(failureOfSilence(300, true).effect).toBe("uncertain");
  });
});

describe("the attempts of one request", () => {
  const silence = failureOfSilence(300, true);
  const refused = failureOfError(new Error("connect ECONNREFUSED 10.0.0.1:2379"), false);

  test("a write that may have been done is reported as uncertain at once", () => {
    expect(() => new Attempts("write").note(one, silence)).toThrow(
      expect.objectContaining({ code: "DCS_UNCERTAIN" }),
    );
  });

  test("a write that surely was not done may be tried elsewhere, and is unreachable in the end", () => {
    const attempts = new Attempts("write");
    attempts.note(one, refused);
    attempts.note(two, refused);
    expect(attempts.uncertain).toBe(false);
    const fault = attempts.fault();
    expect(fault.code).toBe("DCS_UNREACHABLE");
    expect(fault.detail).toBe(`${one}: ${refused.reason}; ${two}: ${refused.reason}`);
  });

  test("a read goes on after silence", () => {
    const attempts = new Attempts("read");
    attempts.note(one, silence);
    expect(attempts.fault().code).toBe("DCS_UNREACHABLE");
  });

  test("a guarded write without an answer in the end is uncertain", () => {
    const attempts = new Attempts("guarded write");
    attempts.note(one, silence);
    attempts.note(two, refused);
    expect(attempts.fault().code).toBe("DCS_UNCERTAIN");
  });

  test("missing rights end it at once, one member's wrong certificate does not", () => {
    const alert = Object.assign(new Error("alert"), { code: "ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED" });
    const attempts = new Attempts("read");
    attempts.note(one, failureOfError(alert, true));
    expect(attempts.fault().code).toBe("DCS_DENIED");
    const denied = failureOfStatus(7, "etcdserver: permission denied");
    expect(() => attempts.note(two, denied)).toThrow(expect.objectContaining({ code: "DCS_DENIED" }));
  });

  test("a token that is refused again and again means no access", () => {
    const attempts = new Attempts("read");
    const stale = failureOfStatus(16, "etcdserver: invalid auth token");
    attempts.noteStaleToken(one, stale);
    attempts.noteStaleToken(one, stale);
    expect(() => attempts.noteStaleToken(one, stale)).toThrow(
      expect.objectContaining({ code: "DCS_DENIED" }),
    );
  });
});
