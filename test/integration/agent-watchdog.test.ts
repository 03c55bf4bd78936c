import { execFileSync } from "node:child_process";
import { closeSync, constants, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { agentLab, type AgentLab } from "../support/agents.ts";
import { startEtcd, type TestEtcd } from "../support/etcd.ts";
import { waitFor } from "../support/process.ts";

describe("the watchdog of a node", () => {
  let etcd: TestEtcd;
  let lab: AgentLab;
  beforeAll(async () => {
    etcd = await startEtcd();
    lab = agentLab("watchdog", () => etcd.endpoints);
  });
  afterAll(async () => {
    await lab.remove();
    await etcd.stop();
  });

  test("is fed while the node leads, and disarmed when it ends", async () => {
    const device = join(lab.dir, "watchdog");
    execFileSync("mkfifo", [device]);
    const reader = openSync(device, constants.O_RDONLY | constants.O_NONBLOCK);
    const agent = await lab.agent({
      cluster: "fed",
      node: "db1",
      file: { watchdog: { mode: "required", device } },
      settings: { ttl: "5s" },
    });
    let fed = "";
    const read = (): string => {
      const buffer = Buffer.alloc(4096);
      try {
        fed += buffer.toString("latin1", 0, readSync(reader, buffer, 0, buffer.length, null));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
      }
      return fed;
    };
    await agent.reaches("running");
    const before = read().length;
    await waitFor(() => read().length >= before + 3, {
      timeoutMs: 20_000,
      what: "three more renewals feed it",
    });
    expect(fed).toMatch(/^1+$/);
    await agent.stop();
    expect(read()).toMatch(/^1+V$/);
    closeSync(reader);
  });

  test("that is required and missing keeps the node from leading, with the reason", async () => {
    const agent = await lab.agent({
      cluster: "missing",
      node: "db1",
      file: { watchdog: { mode: "required", device: join(lab.dir, "no-such-device") } },
      settings: { ttl: "5s" },
    });
    expect(await agent.hasProblem("WATCHDOG_UNAVAILABLE")).toMatchObject({
      detail: expect.stringContaining("no such file") as string,
    });
    expect((await agent.status()).leader).toBeNull();
    await agent.stop();
  });
});
