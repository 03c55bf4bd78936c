import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  instanceProcesses,
  isAlive,
  processFacts,
  programsWorkingOn,
  readPostmasterFile,
  signalProcess,
} from "./processes.ts";

describe("a process", () => {
  test("is known by its number and its start", () => {
    const self = processFacts(process.pid);
    expect(self).toMatchObject({ pid: process.pid, parent: process.ppid });
    expect(self && isAlive(self)).toBe(true);
    expect(self && isAlive({ ...self, startTicks: self.startTicks - 1 })).toBe(false);
  });

  test("that took over the number of another gets no signal meant for that one", () => {
    const self = processFacts(process.pid);
    expect(self && signalProcess({ ...self, startTicks: self.startTicks - 1 }, "SIGKILL")).toBe(false);
  });

  test("that is dead is dead although its parent has not taken notice yet", async () => {
    const child = spawn("/bin/sleep", ["60"]);
    const facts = processFacts(child.pid ?? 0)!;
    expect(signalProcess(facts, "SIGKILL")).toBe(true);
    const exited = new Promise((resolve) => child.once("exit", resolve));
    // Nothing is awaited in here, so that the exit cannot have been collected: the process is a zombie by then.
    const end = performance.now() + 2_000;
    while (isAlive(facts) && performance.now() < end);
    expect(isAlive(facts)).toBe(false);
    await exited;
  });
});

describe("a data directory", () => {
  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "pgherd-processes-"));
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  test("has no processes when only other programs work in it", async () => {
    const child = spawn("/bin/sleep", ["60"], { cwd: dir });
    expect(instanceProcesses(dir)).toEqual([]);
    expect(programsWorkingOn(["sleep"], "60").map((each) => each.pid)).toContain(child.pid);
    expect(programsWorkingOn(["sleep"], dir)).toEqual([]);
    child.kill("SIGKILL");
    await new Promise((resolve) => child.once("exit", resolve));
  });

  test("names its postmaster, as far as that has got", () => {
    const file = join(dir, "postmaster.pid");
    expect(readPostmasterFile(dir)).toBeNull();
    writeFileSync(file, `77\n${dir}\n1763700000\n5433\n/run/pg\n127.0.0.1\n  5433001  2\nready   \n`);
    expect(readPostmasterFile(dir)).toEqual({ pid: 77, port: 5433, socketDir: "/run/pg", status: "ready" });
    writeFileSync(file, `77\n${dir}\n1763700000\n5433\n`);
    expect(readPostmasterFile(dir)).toEqual({ pid: 77, port: 5433, socketDir: null, status: null });
  });

  test("has no postmaster while a single-user server works on it", () => {
    writeFileSync(join(dir, "postmaster.pid"), `-77\n${dir}\n`);
    expect(readPostmasterFile(dir)).toBeNull();
    writeFileSync(join(dir, "postmaster.pid"), "");
    expect(readPostmasterFile(dir)).toBeNull();
  });
});
