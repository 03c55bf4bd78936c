import { describe, expect, it } from "vitest";
import type { Lsn } from "../../values/lsn.ts";
import { Completeness } from "./completeness.ts";

const at = (seconds: number): number => Date.parse("2026-11-21T14:00:00.000Z") + seconds * 1000;
const until = (seconds: number): string => new Date(at(seconds) - 1000).toISOString();
const lsn = (value: number): Lsn => BigInt(value) as Lsn;

describe("until when everything is here", () => {
  it("is a second before the server's last word of which all is durable", () => {
    const completeness = new Completeness();
    expect(completeness.until).toBeNull();
    completeness.heard({ end: lsn(100), sentAt: at(1) }, lsn(99));
    expect(completeness.until).toBeNull();
    completeness.flushed(lsn(100));
    expect(completeness.until).toBe(until(1));
  });

  it("goes on under load, when the server is always ahead of the disk", () => {
    const completeness = new Completeness();
    for (let second = 1; second <= 5; second += 1) {
      completeness.heard({ end: lsn(second * 100), sentAt: at(second) }, lsn(second * 100 - 100));
      completeness.flushed(lsn(second * 100 - 50));
    }
    expect(completeness.until).toBe(until(4));
  });

  it("is not moved by a keepalive that tells less than the data before it", () => {
    const completeness = new Completeness();
    completeness.heard({ end: lsn(1000), sentAt: at(1) }, lsn(500));
    completeness.heard({ end: lsn(500), sentAt: at(2) }, lsn(500));
    expect(completeness.until).toBeNull();
    completeness.flushed(lsn(1000));
    expect(completeness.until).toBe(until(2));
  });
});
