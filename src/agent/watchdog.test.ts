import { execFileSync } from "node:child_process";
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { systemClock } from "../system/clock.ts";
import type { Instant } from "../values/time.ts";
import { Watchdog, type WatchdogOptions } from "./watchdog.ts";

describe("Watchdog", () => {
  let dir: string;
  let logged: string[];
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "pgherd-watchdog-"));
    logged = [];
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));
  const watchdog = (options: Pick<WatchdogOptions, "mode" | "device">): Watchdog =>
    new Watchdog({
      ttlMs: () => 5000,
      stopMs: () => 20,
      clock: systemClock,
      log: (_level, event) => logged.push(event),
      ...options,
    });

  it("feeds a FIFO with each later deadline, and says that it ends", () => {
    const device = join(dir, "fifo");
    execFileSync("mkfifo", [device]);
    const reader = openSync(device, constants.O_RDONLY | constants.O_NONBLOCK);
    const dog = watchdog({ mode: "required", device });
    expect(dog.refusal()).toBeNull();
    dog.feed(1000 as Instant);
    dog.feed(1000 as Instant);
    dog.feed(900 as Instant);
    dog.feed(2000 as Instant);
    dog.disarm();
    dog.disarm();
    const read = Buffer.alloc(16);
    expect(read.toString("latin1", 0, readSync(reader, read, 0, 16, null))).toBe("11V");
    closeSync(reader);
  });

  it("writes nothing when it is off, and nothing before it is fed", () => {
    const device = join(dir, "file");
    writeFileSync(device, "");
    watchdog({ mode: "off", device }).feed(1000 as Instant);
    expect(watchdog({ mode: "required", device }).refusal()).toBeNull();
    expect(readFileSync(device, "utf8")).toBe("");
  });

  it("refuses to lead without a device that is required, and says why", () => {
    const device = join(dir, "missing");
    const dog = watchdog({ mode: "required", device });
    expect(dog.refusal()).toMatchObject({ code: "WATCHDOG_UNAVAILABLE" });
    expect(dog.refusal()?.detail).toContain("no such file");
    dog.feed(1000 as Instant);
    expect(dog.refusal()).not.toBeNull();
  });

  it("leads without a device that is only wanted, and says so once", () => {
    const dog = watchdog({ mode: "automatic", device: join(dir, "missing") });
    dog.feed(1000 as Instant);
    dog.feed(2000 as Instant);
    expect(dog.refusal()).toBeNull();
    expect(logged).toEqual(["watchdog.unavailable"]);
  });

  it("refuses a FIFO that nobody reads any more", () => {
    const device = join(dir, "fifo");
    execFileSync("mkfifo", [device]);
    const reader = openSync(device, constants.O_RDONLY | constants.O_NONBLOCK);
    const dog = watchdog({ mode: "required", device });
    dog.feed(1000 as Instant);
    closeSync(reader);
    dog.feed(2000 as Instant);
    expect(dog.refusal()?.detail).toContain("EPIPE");
  });
});
