import { describe, expect, it } from "vitest";
import type { LeaseRecord, ReceiverRecord } from "../cluster/records.ts";
import type { ClusterState } from "../cluster/state.ts";
import type { FencingToken, NodeName, Timeline } from "../values/names.ts";
import type { Instant } from "../values/time.ts";
import { ArchiveWait } from "./archive-wait.ts";

const primary = (token: number, timeline: number): { token: FencingToken; timeline: Timeline } => ({
  token: token as FencingToken,
  timeline: timeline as Timeline,
});
const at = (ms: number): Instant => ms as Instant;

function cluster(receiver: Partial<ReceiverRecord> | null): Pick<ClusterState, "receivers" | "nodes"> {
  const name = "archive" as NodeName;
  const value = { name, state: "streaming", ...receiver } as ReceiverRecord;
  return { nodes: new Map(), receivers: new Map(receiver === null ? [] : [[name, { value, version: 1 }]]) };
}
const streaming = (token: number, timeline: number): Partial<ReceiverRecord> => ({
  ...primary(token, timeline),
});

describe("open_after_archive", () => {
  it("keeps a new primary back until an archive streams its timeline under its token", () => {
    const wait = new ArchiveWait(() => 5000);
    expect(wait.holds(cluster(streaming(4, 1)), primary(4, 1), at(0))).toBe(false);
    expect(wait.holds(cluster(streaming(4, 1)), primary(5, 2), at(100))).toBe(true);
    expect(wait.holds(cluster(streaming(5, 1)), primary(5, 2), at(200))).toBe(true);
    expect(wait.holds(cluster({ ...streaming(5, 2), state: "promised" }), primary(5, 2), at(300))).toBe(true);
    expect(wait.holds(cluster(streaming(5, 2)), primary(5, 2), at(400))).toBe(false);
    // Once open it stays open, whatever becomes of the archive.
    expect(wait.holds(cluster({ ...streaming(5, 2), state: "failed" }), primary(5, 2), at(500))).toBe(false);
  });

  it("waits no longer than it says, and not at all for the first primary, without an archive, or when it is off", () => {
    const wait = new ArchiveWait(() => 5000);
    expect(wait.holds(cluster({}), primary(4, 1), at(0))).toBe(false);
    expect(wait.holds(cluster({}), primary(5, 2), at(1000))).toBe(true);
    expect(wait.holds(cluster({}), primary(5, 2), at(5999))).toBe(true);
    expect(wait.holds(cluster({}), primary(5, 2), at(6000))).toBe(false);
    expect(wait.holds(cluster(null), primary(6, 3), at(7000))).toBe(false);
    const off = new ArchiveWait(() => null);
    expect(off.holds(cluster({}), primary(4, 1), at(0))).toBe(false);
    expect(off.holds(cluster({}), primary(5, 2), at(100))).toBe(false);
  });

  it("does not wait after a move that was planned, nor for a primary that goes on with another token", () => {
    const released = (token: number, kind: "switchover" | "crash"): LeaseRecord =>
      ({ token, state: "released", release: { kind } }) as LeaseRecord;
    const wait = new ArchiveWait(() => 5000);
    expect(wait.holds(cluster({}), primary(4, 1), at(0))).toBe(false);
    wait.see(released(4, "switchover"));
    expect(wait.holds(cluster({}), primary(5, 2), at(100))).toBe(false);
    expect(wait.holds(cluster({}), primary(6, 2), at(200))).toBe(false);
    wait.see(released(6, "crash"));
    expect(wait.holds(cluster({}), primary(7, 3), at(300))).toBe(true);
  });

  it("goes by what is set now, also while it holds a primary back", () => {
    let limit: number | null = null;
    const wait = new ArchiveWait(() => limit);
    expect(wait.holds(cluster({}), primary(4, 1), at(0))).toBe(false);
    limit = 60_000;
    expect(wait.holds(cluster({}), primary(5, 2), at(100))).toBe(true);
    limit = null;
    expect(wait.holds(cluster({}), primary(5, 2), at(200))).toBe(false);
  });
});
