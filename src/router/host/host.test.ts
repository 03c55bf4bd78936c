import { describe, expect, it } from "vitest";
import { systemTimers } from "../../system/timers.ts";
import { missingCapabilities, requireHost } from "./capabilities.ts";
import { hostTools, toolPath, toolProblem } from "./tool.ts";

describe("tools of the host", () => {
  const run = hostTools(systemTimers);

  it("get their input and environment, and their outputs are kept up to a bound", async () => {
    const result = await run("sh", ["-c", 'cat; echo "$WORD" >&2; exit 3'], {
      timeoutMs: 5000,
      input: "x".repeat(1000),
      env: { WORD: "said" },
      outputBytes: 10,
    });
    expect(result).toEqual({ code: 3, stdout: "x".repeat(10), stderr: "said\n", timedOut: false });
    expect(toolProblem("sh", result)).toBe("sh ended with 3: said");
  });

  it("are killed at their limit", async () => {
    const result = await run("sh", ["-c", "exec sleep 60"], { timeoutMs: 50 });
    expect(result).toMatchObject({ code: null, timedOut: true });
  });

  it("that are missing are refused with what to install", async () => {
    await expect(run("no-such-tool", [], { timeoutMs: 1000 })).rejects.toMatchObject({
      code: "TOOL_MISSING",
    });
    expect(() => requireHost({ what: "This", capabilities: [], tools: ["no-such-tool"] })).toThrow(
      "no-such-tool",
    );
  });

  it("are found among the administrator's programs too", () => {
    expect(toolPath("/usr/bin:/sbin")).toBe("/usr/bin:/sbin:/usr/sbin:/usr/local/sbin");
  });
});

describe("capabilities", () => {
  it("are read from the effective set", () => {
    const status = (mask: string): string => `Name:\tnode\nCapPrm:\tffff\nCapEff:\t${mask}\n`;
    const both = ["CAP_NET_ADMIN", "CAP_NET_RAW"] as const;
    expect(missingCapabilities(status("0000000000000000"), both)).toEqual([...both]);
    expect(missingCapabilities(status("0000000000001000"), both)).toEqual(["CAP_NET_RAW"]);
    expect(missingCapabilities(status("000001ffffffffff"), both)).toEqual([]);
  });
});
