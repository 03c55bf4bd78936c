import { mkdtempSync, readFileSync, existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import type { ClusterEvent } from "../cluster/decision.ts";
import { systemTimers } from "../system/timers.ts";
import type { WallTime } from "../values/time.ts";
import { HookRunner, type Hook } from "./hooks.ts";

const event: ClusterEvent = {
  at: "2026-11-21T02:00:00.000Z" as WallTime,
  node: "db1",
  event: "promoted",
  success: true,
  message: "db1 is primary on timeline 2",
  facts: { timeline: 2, former_leader: null },
};

function runner(hooks: readonly Hook[]): { runner: HookRunner; logged: string[] } {
  const logged: string[] = [];
  const context = {
    cluster: "shop",
    node: "db1",
    facts: () => ({ role: "primary" }),
    timers: systemTimers,
    log: (name: string) => logged.push(name),
  };
  return { runner: new HookRunner(hooks, context), logged };
}

describe("HookRunner", () => {
  it("gives a command the facts as environment and the event as JSON on its input", async () => {
    const directory = mkdtempSync(join(tmpdir(), "pgherd-hook-"));
    const out = join(directory, "out");
    const command = [
      "/bin/sh",
      "-c",
      `{ cat; echo "$PGHERD_EVENT $PGHERD_TIMELINE $PGHERD_ROLE"; } > ${out}.part && mv ${out}.part ${out}`,
    ];
    runner([{ events: [], command, timeoutMs: 5000 }]).runner.offer(event);
    await vi.waitFor(() => expect(existsSync(out)).toBe(true), { timeout: 5000 });
    const [json, line] = readFileSync(out, "utf8").split("\n");
    expect(JSON.parse(json ?? "")).toMatchObject({
      cluster: "shop",
      event: "promoted",
      facts: { timeline: 2 },
    });
    expect(line).toBe("promoted 2 primary");
  });

  it("runs only for the events it was asked for", async () => {
    const directory = mkdtempSync(join(tmpdir(), "pgherd-hook-"));
    const touch = (name: string): string[] => ["/usr/bin/touch", join(directory, name)];
    const { runner: hooks } = runner([
      { events: ["demoted"], command: touch("other"), timeoutMs: 5000 },
      { events: ["promoted"], command: touch("wanted"), timeoutMs: 5000 },
    ]);
    hooks.offer(event);
    await vi.waitFor(() => expect(existsSync(join(directory, "wanted"))).toBe(true), { timeout: 5000 });
    expect(existsSync(join(directory, "other"))).toBe(false);
  });

  it("ends a command that hangs, and goes on with the next event", async () => {
    const { runner: hooks, logged } = runner([{ events: [], command: ["/bin/sleep", "60"], timeoutMs: 50 }]);
    hooks.offer(event);
    hooks.offer(event);
    await vi.waitFor(() => expect(logged.filter((name) => name === "hook.timeout")).toHaveLength(2), {
      timeout: 5000,
    });
  });

  it("drops events beyond its bound instead of growing", () => {
    const { runner: hooks, logged } = runner([{ events: [], command: ["/bin/sleep", "1"], timeoutMs: 10 }]);
    for (let count = 0; count < 150; count += 1) hooks.offer(event);
    expect(logged.filter((name) => name === "hook.dropped").length).toBeGreaterThan(30);
  });

  it("reports a command that cannot be started", async () => {
    const { runner: hooks, logged } = runner([
      { events: [], command: ["/nonexistent/program"], timeoutMs: 1000 },
    ]);
    hooks.offer(event);
    await vi.waitFor(() => expect(logged).toContain("hook.failed"), { timeout: 5000 });
  });
});
