import { describe, expect, test } from "vitest";
import { systemTimers } from "../system/timers.ts";
import { lastLines, programEnvironment, runProgram } from "./programs.ts";

const options = { timers: systemTimers, timeoutMs: 10_000 };

describe("a program that is run", () => {
  test("gives its exit code and both outputs", async () => {
    const result = await runProgram("/bin/sh", ["-c", "echo out; echo err >&2; exit 3"], options);
    expect(result).toEqual({ code: 3, stdout: "out\n", stderr: "err\n" });
  });

  test("keeps only the end of a long output", async () => {
    const result = await runProgram("/bin/sh", ["-c", "seq 1 200000; echo last"], {
      ...options,
      keepBytes: 100,
    });
    expect(result.stdout).toHaveLength(100);
    expect(result.stdout.endsWith("200000\nlast\n")).toBe(true);
  });

  test("is killed with its children at the time limit", async () => {
    const started = performance.now();
    const late = runProgram("/bin/sh", ["-c", "echo early >&2; sleep 60 & sleep 60"], {
      ...options,
      timeoutMs: 2_000, // a busy machine takes its time to start a shell
    });
    await expect(late).rejects.toMatchObject({ code: "PROGRAM_TIMEOUT", detail: "early" });
    expect(performance.now() - started).toBeLessThan(15_000); // the outputs end only when no child holds them
  });

  test("is killed when the work is called off, also before it began", async () => {
    const controller = new AbortController();
    const running = runProgram("/bin/sh", ["-c", "echo begun >&2; sleep 60"], {
      ...options,
      signal: controller.signal,
      onStderr: () => controller.abort(),
    });
    await expect(running).rejects.toMatchObject({ code: "PROGRAM_FAILED" });
    const never = runProgram("/bin/sh", ["-c", "sleep 60"], { ...options, signal: controller.signal });
    await expect(never).rejects.toMatchObject({ code: "PROGRAM_FAILED" });
  });

  test("that is not there is a fault that says so", async () => {
    await expect(runProgram("/nowhere/postgres", [], options)).rejects.toMatchObject({
      code: "BINARIES_MISSING",
    });
  });

  test("sees none of the caller's PG settings and speaks English", () => {
    process.env["PGPASSWORD"] = "x";
    const environment = programEnvironment({ PGPASSFILE: "/p" }, false);
    delete process.env["PGPASSWORD"];
    expect(environment).toMatchObject({ LC_ALL: "C", PGPASSFILE: "/p" });
    expect(environment["PGPASSWORD"]).toBeUndefined();
  });

  test("leaves the last lines for the detail of a fault", () => {
    expect(lastLines("a\nb\nc\n\n", 2)).toBe("b\nc");
  });
});
