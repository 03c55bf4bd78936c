import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { systemTimers, type Timers } from "../../system/timers.ts";
import { becomeSoleWriter } from "./sole-writer.ts";

let dir: string;
beforeEach(() => (dir = mkdtempSync(join(tmpdir(), "pgherd-sole-"))));
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const hurried: Timers = { ...systemTimers, sleep: () => systemTimers.sleep(1) };

it("one process receives to a directory, until it is killed", async () => {
  const { dev, ino } = statSync(dir);
  const listen = `require("net").createServer().listen({ path: "\\0pgherd-live-${dev}-${ino}" }, () => console.log("there"))`;
  const other = spawn(process.execPath, ["-e", listen], { stdio: ["ignore", "pipe", "inherit"] });
  try {
    await once(other.stdout, "data");
    await expect(becomeSoleWriter(dir, hurried)).rejects.toMatchObject({ code: "BACKUP_WAL_IN_USE" });
  } finally {
    other.kill("SIGKILL");
  }
  await becomeSoleWriter(dir, systemTimers);
  await expect(becomeSoleWriter(dir, hurried)).rejects.toMatchObject({ code: "BACKUP_WAL_IN_USE" });
});
