import { spawn } from "node:child_process";
import type { Timers } from "../../system/timers.ts";
import { Fault } from "../../values/fault.ts";

export interface ToolOptions {
  readonly timers: Timers;
  readonly timeoutMs: number;
  /** Written to its standard input. */
  readonly input?: string;
  /** Kept of each output at most; 256 kB where nothing is said. */
  readonly outputBytes?: number;
  /** Added to this process's environment. */
  readonly env?: Readonly<Record<string, string>>;
}

/** How a tool ended: its exit code (null = a signal) and the beginnings of its outputs. */
export interface ToolResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** It was killed at its time limit. */
  readonly timedOut: boolean;
}

/** Runs a tool to its end or its time limit. */
export type RunTool = (
  program: string,
  args: readonly string[],
  options: Omit<ToolOptions, "timers">,
) => Promise<ToolResult>;

const defaultOutputBytes = 262_144;
/** Where the administrator's programs are; a service's PATH may lack them. */
const administrators = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/** The search path with the administrator's programs at its end. */
export function toolPath(path: string | undefined): string {
  const places = (path ?? "/usr/bin:/bin").split(":");
  return [...places, ...administrators.filter((place) => !places.includes(place))].join(":");
}

/** A runner of tools on this host. The promise rejects only when a program cannot be started: Fault TOOL_MISSING. */
export function hostTools(timers: Timers): RunTool {
  return (program, args, options) => runTool(program, args, { ...options, timers });
}

function runTool(program: string, args: readonly string[], options: ToolOptions): Promise<ToolResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: "/",
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, PATH: toolPath(process.env["PATH"]), LC_ALL: "C", ...options.env },
    });
    let timedOut = false;
    const timer = options.timers.after(options.timeoutMs, () => {
      timedOut = true;
      child.kill("SIGKILL");
      // A program whose own child holds the pipes would keep them open.
      child.stdout.destroy();
      child.stderr.destroy();
    });
    const stdout = collect(child.stdout, options.outputBytes);
    const stderr = collect(child.stderr, options.outputBytes);
    child.once("error", (error) => {
      timer.cancel();
      reject(missingTool(program, error.message));
    });
    child.once("close", (code) => {
      timer.cancel();
      resolve({ code, stdout: stdout(), stderr: stderr(), timedOut });
    });
    child.stdin.on("error", () => undefined); // it need not read its input
    child.stdin.end(options.input ?? "");
  });
}

function collect(stream: NodeJS.ReadableStream, limit = defaultOutputBytes): () => string {
  let kept = "";
  stream.on("data", (chunk: Buffer) => {
    if (kept.length < limit) kept += chunk.toString("utf8").slice(0, limit - kept.length);
  });
  return () => kept;
}

/** Debian's package of each tool. */
const packages: Readonly<Record<string, string>> = {
  ip: "iproute2",
  ss: "iproute2",
  arping: "iputils-arping",
  ndisc6: "ndisc6",
  nft: "nftables",
  conntrack: "conntrack",
};

/** The refusal when a tool is not there. */
export function missingTool(program: string, detail: string): Fault {
  const debian = packages[program];
  return new Fault("TOOL_MISSING", `The program ${program} cannot be run.`, {
    detail,
    hint:
      debian === undefined
        ? "Look at its path and its permissions."
        : `Install it: apt install ${debian} (Debian, Ubuntu), or this system's package of the same tool.`,
  });
}

/** One line for people of how a tool failed. */
export function toolProblem(program: string, result: ToolResult): string {
  if (result.timedOut) return `${program} did not finish in time`;
  const said = `${result.stderr}\n${result.stdout}`
    .split("\n")
    .map((line) => line.trim())
    .find((line) => line !== "");
  return `${program} ended with ${result.code ?? "a signal"}${said === undefined ? "" : `: ${said.slice(0, 300)}`}`;
}
