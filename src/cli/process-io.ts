import { spawn } from "node:child_process";
import { basename, delimiter, dirname, relative } from "node:path";
import { createInterface } from "node:readline/promises";
import { systemClock } from "../system/clock.ts";
import { systemTimers } from "../system/timers.ts";
import { Fault } from "../values/fault.ts";
import type { CliIo, Output } from "./io.ts";

const largestInputBytes = 1024 * 1024;

/** The terminal, pipes and signals of this process. Called once, by the entry. */
export function processIo(): CliIo {
  const interruption = new AbortController();
  const interrupt = (): void => interruption.abort();
  process.once("SIGINT", interrupt);
  process.once("SIGTERM", interrupt);
  return {
    stdout: outputOf(process.stdout, interrupt),
    stderr: outputOf(process.stderr, interrupt),
    inputIsTerminal: process.stdin.isTTY,
    env: process.env,
    program: calledAs(process.argv[1] ?? "pgherd", process.cwd(), process.env["PATH"] ?? ""),
    directory: process.cwd(),
    clock: systemClock,
    timers: systemTimers,
    interrupted: interruption.signal,
    ask: (question) => ask(question, interruption.signal),
    readInput,
    edit: (file) => edit(file, process.env),
  };
}

/** `pgherd` when a shell finds it by that name, else the path from here: `./bin/pgherd`. */
function calledAs(script: string, directory: string, path: string): string {
  if (path.split(delimiter).includes(dirname(script))) return basename(script);
  const here = relative(directory, script);
  return here.startsWith("..") ? script : `./${here}`;
}

function outputOf(stream: NodeJS.WriteStream, closed: () => void): Output {
  // `pgherd events | head`: the reader has enough, which is no error.
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
    closed();
  });
  return {
    write: (text) => void stream.write(text),
    terminal: stream.isTTY,
    get columns() {
      return stream.isTTY ? stream.columns : null;
    },
  };
}

async function ask(question: string, signal: AbortSignal): Promise<string | null> {
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const ended = new Promise<null>((resolve) => lines.once("close", () => resolve(null)));
    return await Promise.race([lines.question(question, { signal }), ended]);
  } catch (thrown) {
    if (signal.aborted) return null;
    throw thrown;
  } finally {
    lines.close();
  }
}

async function readInput(): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > largestInputBytes)
      throw new Fault("USAGE", "Standard input is too long", { detail: "The limit is 1 MiB." });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** VISUAL and EDITOR may hold arguments (`code --wait`), so that a shell splits them; the file is a parameter of it. */
async function edit(file: string, env: NodeJS.ProcessEnv): Promise<void> {
  const editor = env["VISUAL"] ?? env["EDITOR"] ?? "vi";
  const code = await new Promise<number | null>((resolve, reject) => {
    const child = spawn("/bin/sh", ["-c", `${editor} "$1"`, "sh", file], { stdio: "inherit" });
    child.once("error", reject);
    child.once("close", resolve);
  });
  if (code !== 0)
    throw new Fault(
      "PROGRAM_FAILED",
      `The editor ended with ${code === null ? "a signal" : `code ${code}`}`,
      {
        detail: editor,
        hint: "Set EDITOR to a program that waits until the file is closed.",
      },
    );
}
