import { spawn, type ChildProcess } from "node:child_process";
import type { Timer, Timers } from "../../system/timers.ts";
import { toolPath } from "../host/tool.ts";

const restartMs = 1000;
const longest = 65_536;

/**
 * Tells at once when a table is removed, by `nft monitor`: `flush ruleset`, a restart of the distribution's own firewall service. Only a
 * shortcut: the refresh of every second finds it too. The program dies with this process (setpriv), also when that is killed.
 * @returns stops it
 */
export function watchForFlush(table: string, timers: Timers, onRemoved: () => void): () => void {
  let child: ChildProcess | null = null;
  let timer: Timer | null = null;
  let closed = false;
  const start = (): void => {
    if (closed) return;
    const monitor = spawn("setpriv", ["--pdeathsig", "KILL", "nft", "monitor", "destroy", "tables"], {
      stdio: ["ignore", "pipe", "ignore"],
      env: { ...process.env, PATH: toolPath(process.env["PATH"]) },
    });
    child = monitor;
    let pending = "";
    monitor.stdout.on("data", (chunk: Buffer) => {
      const lines = (pending + chunk.toString("utf8")).slice(-longest).split("\n");
      pending = lines.pop() ?? "";
      if (lines.some((line) => line.trim().endsWith(` ${table}`))) onRemoved();
    });
    monitor.on("error", () => undefined);
    monitor.on("close", () => {
      if (!closed) timer = timers.after(restartMs, start);
    });
  };
  start();
  return () => {
    closed = true;
    timer?.cancel();
    child?.kill("SIGKILL");
  };
}
