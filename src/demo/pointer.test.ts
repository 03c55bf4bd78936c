import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { defaultDemoDir, forgetDemoDir, lastDemoDir, pointerFile, rememberDemoDir } from "./pointer.ts";

const home = mkdtempSync(join(tmpdir(), "pgherd-pointer-"));
afterAll(() => rmSync(home, { recursive: true, force: true }));

describe("the last demo", () => {
  it("is remembered for one user, and forgotten only when it is the one that is gone", async () => {
    const env = { HOME: home };
    expect(await lastDemoDir(env)).toBeNull();
    await rememberDemoDir(env, "/srv/one");
    expect(await lastDemoDir(env)).toBe("/srv/one");
    expect(statSync(pointerFile(env)).mode & 0o777).toBe(0o600);
    await forgetDemoDir(env, "/srv/other");
    expect(await lastDemoDir(env)).toBe("/srv/one");
    await forgetDemoDir(env, "/srv/one");
    expect(await lastDemoDir(env)).toBeNull();
  });

  it("stands where the user's state belongs", () => {
    expect(pointerFile({ HOME: "/home/a" })).toBe("/home/a/.local/state/pgherd/last-demo");
    expect(pointerFile({ HOME: "/home/a", XDG_STATE_HOME: "/state" })).toBe("/state/pgherd/last-demo");
    expect(pointerFile({ HOME: "/home/a", XDG_STATE_HOME: "relative" })).toBe(
      "/home/a/.local/state/pgherd/last-demo",
    );
  });

  it("goes to a place the user postgres can reach when root starts it", () => {
    expect(defaultDemoDir({ HOME: "/root" }, true)).toBe("/var/lib/pgherd-demo");
    expect(defaultDemoDir({ HOME: "/home/a" }, false)).toBe("/home/a/.local/state/pgherd/demo");
  });
});
