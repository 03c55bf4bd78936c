import { describe, expect, it } from "vitest";
import { check } from "./check.mjs";
import { entryLine, parseLedger } from "./ledger-file.mjs";

/** A ledger: rows that were sent, and what became of them. */
const ledger = (...facts) => parseLedger(facts.map((fact) => entryLine(...fact)).join(""));
/** A row acknowledged by a node on a timeline. */
const row = (id, sentAt, ackAt, node = "db1", timeline = 1) => [
  ["I", id, sentAt],
  ["A", id, ackAt, node, timeline],
];
const present = (...ids) => new Map(ids.map((id) => [id, 1]));
const unprotected = [{ at: 0, protected: false }];
const judge = (entries, rows, more = {}) =>
  check({ entries, rows, records: unprotected, mark: 0, end: 0, ttlMs: 5000, ...more });

describe("the checker of the ledger", () => {
  it("finds nothing wrong where nothing is", () => {
    const verdict = judge(ledger(...row(1, 10, 11), ["I", 2, 12], ["U", 2, 13, "57P01"]), present(1));
    expect(verdict).toMatchObject({ acknowledged: 1, unknown: 1 });
    const { lost, lostUnprotected, duplicated, strange, invisible, overlaps, late } = verdict;
    expect([lost, lostUnprotected, duplicated, strange, invisible, overlaps, late].flat()).toEqual([]);
  });

  it("neither counts a row of unknown outcome as lost nor as wrongly there", () => {
    const entries = ledger(["I", 1, 10], ["U", 1, 11, "ECONNRESET"], ["I", 2, 12]);
    for (const rows of [present(), present(1, 2)])
      expect(judge(entries, rows)).toMatchObject({ lost: [], lostUnprotected: [], strange: [], unknown: 2 });
  });

  it("finds rows that are lost, twice there, there although refused, or never sent", () => {
    const entries = ledger(...row(1, 10, 11), ...row(2, 20, 21), ["I", 3, 30], ["F", 3, 31, "25006"]);
    const rows = new Map([
      [2, 2],
      [3, 1],
      [4, 1],
    ]);
    expect(judge(entries, rows, { records: [{ at: 0, protected: true }] })).toMatchObject({
      lost: [1],
      duplicated: [2],
      strange: [3, 4],
    });
  });

  it("excuses a loss only when the record said unprotected before the row was acknowledged", () => {
    const entries = ledger(...row(1, 100, 120));
    const lostWith = (...records) => judge(entries, present(), { records }).lost;
    const at = (time, value) => ({ at: time, protected: value });
    expect(lostWith()).toEqual([1]);
    expect(lostWith(at(0, true))).toEqual([1]);
    expect(lostWith(at(0, true), at(110, false))).toEqual([]);
    expect(lostWith(at(0, true), at(121, false))).toEqual([1]);
    expect(lostWith(at(0, true), at(105, false), at(110, true))).toEqual([1]);
    expect(lostWith(at(0, false), at(110, true))).toEqual([1]);
    expect(lostWith(at(0, false))).toEqual([]);
    expect(lostWith(at(0, true), at(90, false), at(130, true))).toEqual([]);
  });

  it("finds a node that acknowledges what was sent after a newer timeline had begun", () => {
    const entries = ledger(
      ...row(1, 10, 11),
      ...row(2, 20, 21, "db2", 2),
      ...row(3, 22, 23, "db1", 1),
      ...row(4, 24, 25, "db2", 2),
    );
    expect(judge(entries, present(1, 2, 3, 4))).toMatchObject({ overlaps: [3], late: [] });
  });

  it("tells an answer that came late from one to a question that was asked late", () => {
    const entries = ledger(...row(1, 10, 500), ...row(2, 20, 21, "db2", 2), ...row(3, 15, 90));
    expect(judge(entries, present(1, 2, 3))).toMatchObject({ overlaps: [], late: [1] });
  });

  it("tells an old primary's reads from a newer one's, and those it may give until its lease ends", () => {
    const entries = ledger(
      ...row(1, 10, 11, "db2", 2),
      ["M", 1, 20, "db1", 1],
      ["M", 1, 5900, "db1", 1],
      ["M", 1, 6100, "db1", 1],
    );
    expect(judge(entries, present(1))).toMatchObject({ invisible: [], stale: 3, unfenced: 1 });
  });

  it("finds a row that a primary did not show although it is there in the end", () => {
    const entries = ledger(
      ...row(1, 10, 11),
      ...row(2, 10, 12),
      ["M", 1, 20, "db2", 2],
      ["M", 2, 20, "db2", 2],
    );
    expect(judge(entries, present(1))).toMatchObject({ invisible: [1], lostUnprotected: [2] });
  });

  it("measures the longest time without an acknowledgement after the fault, also when there never was another", () => {
    const entries = ledger(
      ...row(1, 0, 1),
      ...row(2, 2000, 2001),
      ["I", 3, 2002],
      ["U", 3, 3000, "x"],
      ...row(4, 4500, 4501),
    );
    expect(judge(entries, present(1, 2, 4), { mark: 2001, end: 4600 }).outageMs).toBe(2500);
    expect(judge(entries, present(1, 2, 4), { mark: 2001, end: 9501 }).outageMs).toBe(5000);
    const calm = ledger(...row(1, 0, 1), ...row(2, 300, 301));
    expect(judge(calm, present(1, 2), { end: 310 }).outageMs).toBe(0);
  });

  it("leaves out a last line that was not finished", () => {
    expect(parseLedger("I 1 10.000\nA 1 11.0")).toHaveLength(1);
  });
});
