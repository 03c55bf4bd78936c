import { chmodSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { systemTimers } from "../system/timers.ts";
import { tellServiceManager } from "./service-watchdog.ts";

let dir = "";
let told = "";
let end = (): void => undefined;

// Each test has its own place: a program that the test before it started may write its line late.
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "pgherd-service-"));
  told = join(dir, "told");
});

afterEach(() => end());

/** A stand-in for systemd's program: notes what it was asked to send, and where. */
function program(takesSeconds: number): string {
  const path = join(dir, `notify-${takesSeconds}`);
  writeFileSync(path, `#!/bin/sh\necho "$* $NOTIFY_SOCKET" >> ${told}\nsleep ${takesSeconds}\n`);
  chmodSync(path, 0o755);
  return path;
}

function lines(): string[] {
  try {
    return readFileSync(told, "utf8").trim().split("\n");
  } catch {
    return [];
  }
}

it("tells the service manager that it lives, several times within what is allowed", async () => {
  end = tellServiceManager({ NOTIFY_SOCKET: "/run/n", WATCHDOG_USEC: "300000" }, systemTimers, program(0));
  await vi.waitFor(() => expect(lines().length).toBeGreaterThanOrEqual(3), { timeout: 10_000 });
  expect(new Set(lines())).toEqual(new Set(["--no-block WATCHDOG=1 /run/n"]));
});

it("waits for one word to be sent before it sends the next", async () => {
  end = tellServiceManager({ NOTIFY_SOCKET: "/run/n", WATCHDOG_USEC: "30000" }, systemTimers, program(1));
  await vi.waitFor(() => expect(lines()).toHaveLength(1), { timeout: 10_000 });
  await systemTimers.sleep(200);
  expect(lines()).toHaveLength(1);
});

it("says nothing to a service manager that does not ask", async () => {
  end = tellServiceManager({ NOTIFY_SOCKET: "/run/n" }, systemTimers, program(0));
  await systemTimers.sleep(100);
  expect(lines()).toEqual([]);
});
