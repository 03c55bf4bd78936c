import { beforeEach, describe, expect, it } from "vitest";
import type { Dcs, DcsEntry, DcsSnapshot, DcsWatchEvent } from "../dcs/dcs.ts";
import { keys } from "../dcs/layout.ts";
import type { Instant, WallTime } from "../values/time.ts";
import { DcsMirror } from "./mirror.ts";

const clock = {
  now: () => 1000 as Instant,
  bootMs: () => 1000,
  wall: () => "2026-11-21T00:00:00.000Z" as WallTime,
};

const entry = (version: number): DcsEntry => ({ value: String(version), version });
const snapshot = (revision: number, entries: Record<string, DcsEntry>): DcsSnapshot => ({
  revision,
  entries: new Map(Object.entries(entries)),
});
const change = (revision: number, key: string, value: DcsEntry | null): DcsWatchEvent => ({
  kind: "changes",
  revision,
  changes: new Map([[key, value]]),
});

describe("DcsMirror", () => {
  let mirror: DcsMirror;
  let tell: (event: DcsWatchEvent) => void;
  beforeEach(() => {
    const dcs = {
      watch: (handler: (event: DcsWatchEvent) => void) => {
        tell = handler;
        return { close: () => undefined };
      },
    } as unknown as Dcs;
    mirror = new DcsMirror(dcs, clock, () => undefined);
    mirror.open();
  });

  it("does not go back when the watch reports what a read has shown already", () => {
    tell({ kind: "snapshot", snapshot: snapshot(1, {}) });
    mirror.absorb(snapshot(12, { [keys.config]: entry(12) }));
    tell(change(10, keys.status, entry(10)));
    tell(change(11, keys.status, null));
    expect(mirror.entry(keys.status)).toBeUndefined();
    expect(mirror.state?.revision).toBe(12);
    mirror.absorb(snapshot(11, {}));
    expect(mirror.entry(keys.config)).toEqual(entry(12));
  });

  it("follows a store that was put back from a backup", () => {
    tell({ kind: "snapshot", snapshot: snapshot(500, { [keys.config]: entry(499) }) });
    tell({ kind: "snapshot", snapshot: snapshot(20, { [keys.config]: entry(7) }) });
    expect(mirror.entry(keys.config)).toEqual(entry(7));
    tell(change(21, keys.config, entry(21)));
    expect(mirror.entry(keys.config)).toEqual(entry(21));
  });
});
