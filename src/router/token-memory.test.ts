import { describe, expect, it, vi } from "vitest";
import type { StateFiles } from "../agent/state-files.ts";
import type { FencingToken } from "../values/names.ts";
import { TokenMemory } from "./token-memory.ts";

const token = (number: number): FencingToken => number as FencingToken;

function memoryFiles(text: string | null = null): StateFiles & { text: string | null; failing: boolean } {
  return {
    text,
    failing: false,
    read() {
      return Promise.resolve(this.text);
    },
    write(_name, given) {
      if (this.failing) return Promise.reject(new Error("the disk is full"));
      this.text = given;
      return Promise.resolve();
    },
    remove: () => Promise.resolve(),
    append: () => Promise.resolve(),
    lines: () => Promise.resolve([]),
  };
}

describe("the highest token", () => {
  it("is on disk before anybody is sent where it leads, and there after a restart", async () => {
    const files = memoryFiles();
    const memory = await TokenMemory.open(files, () => undefined);
    const kept = vi.fn();
    memory.see(token(5), "7300", kept);
    expect([memory.highest, memory.holds(token(5))]).toEqual([5, false]);
    await memory.flush();
    expect([memory.holds(token(5)), kept.mock.calls.length]).toEqual([true, 1]);
    const again = await TokenMemory.open(files, () => undefined);
    expect([again.highest, again.holds(token(5)), again.holds(token(6))]).toEqual([5, true, false]);
  });

  it("does not go down with a store that went back in time", async () => {
    const memory = await TokenMemory.open(
      memoryFiles('{"token":9,"system_identifier":"7300"}'),
      () => undefined,
    );
    memory.see(token(4), "7300", () => undefined);
    await memory.flush();
    expect(memory.highest).toBe(9);
  });

  it("begins anew with another cluster's data", async () => {
    const memory = await TokenMemory.open(
      memoryFiles('{"token":9,"system_identifier":"7300"}'),
      () => undefined,
    );
    memory.see(token(1), "7400", () => undefined);
    await memory.flush();
    expect([memory.highest, memory.holds(token(1))]).toEqual([1, true]);
  });

  it("counts in memory where the disk takes nothing: that keeps nobody from the primary", async () => {
    const files = memoryFiles();
    files.failing = true;
    const log = vi.fn();
    const memory = await TokenMemory.open(files, log);
    memory.see(token(3), null, () => undefined);
    await memory.flush();
    expect(memory.holds(token(3))).toBe(true);
    expect(log.mock.calls[0]?.[1]).toBe("token.not_kept");
  });

  it.each(["", "{", '{"token":"x"}', '{"token":-1}', "null"])("starts without one from %s", async (text) => {
    expect((await TokenMemory.open(memoryFiles(text), () => undefined)).highest).toBeNull();
  });
});
