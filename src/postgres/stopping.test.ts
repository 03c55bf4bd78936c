import { describe, expect, it } from "vitest";
import type { Lsn } from "../values/lsn.ts";
import type { Instant } from "../values/time.ts";
import { stuckSenders } from "./stopping.ts";

const sender = (pid: number, sent: bigint): { pid: number; startTicks: number; sent: Lsn } => ({
  pid,
  startTicks: 1,
  sent: sent as Lsn,
});
const at = (ms: number): Instant => ms as Instant;

describe("WAL senders of a stopping server", () => {
  it("are ended when they stand still behind another for a while", () => {
    const progress = new Map<number, { readonly sent: Lsn; readonly since: Instant }>();
    const all = [sender(1, 900n), sender(2, 500n)];
    expect(stuckSenders(all, progress, at(0))).toEqual([]);
    expect(stuckSenders(all, progress, at(1400))).toEqual([]);
    expect(stuckSenders(all, progress, at(1500)).map((each) => each.pid)).toEqual([2]);
  });

  it("are left alone while they move, however far behind", () => {
    const progress = new Map<number, { readonly sent: Lsn; readonly since: Instant }>();
    stuckSenders([sender(1, 900n), sender(2, 500n)], progress, at(0));
    stuckSenders([sender(1, 900n), sender(2, 600n)], progress, at(1400));
    expect(stuckSenders([sender(1, 900n), sender(2, 600n)], progress, at(2000))).toEqual([]);
  });

  it("are left alone when nobody has sent more: the only one may be the one that takes over", () => {
    const progress = new Map<number, { readonly sent: Lsn; readonly since: Instant }>();
    const all = [sender(1, 500n), sender(2, 500n)];
    stuckSenders(all, progress, at(0));
    expect(stuckSenders(all, progress, at(60_000))).toEqual([]);
  });
});
