import { spawn, type ChildProcessWithoutNullStreams } from "node:child_process";
import { programEnvironment } from "./programs.ts";

/** One file to write. */
export interface DiskRequest {
  /** The file that is written and flushed. */
  readonly file: string;
  /** Whether this file is there is told too; empty = not asked. */
  readonly reserve: string;
}

/** How a write ended. */
export interface DiskAnswer {
  readonly ok: boolean;
  readonly freeBytes: number | null;
  readonly reserveHeld: boolean;
  /** The words of the program that failed. */
  readonly text: string;
}

/**
 * Writes new blocks each time (a file that is only overwritten finds a full disk well), flushes, and tells the room left.
 * One line in, one line out; ends when its input ends, so that it never outlives the agent for long.
 */
const script = `
tab=$(printf '\\t')
while IFS="$tab" read -r file reserve; do
  text=$(dd if=/dev/zero of="$file" bs=8192 count=1 conv=fsync status=none 2>&1)
  code=$?
  [ $code -eq 0 ] || text=$(printf '%s' "$text" | tr '\\n\\t' '  ')
  free=$(stat -f -c '%a %S' "\${file%/*}" 2>/dev/null)
  held=0
  [ -n "$reserve" ] && [ -f "$reserve" ] && held=1
  printf '%s\\t%s\\t%s\\t%s\\n' "$code" "$free" "$held" "$text"
done`;

const outputLimit = 16_384;

/**
 * The process that touches the disk. A write to a hung disk cannot be ended, not even by SIGKILL: in the agent it would take
 * a thread of the small pool that all file access shares; here it costs nothing but itself. A shell, because a second
 * JavaScript engine would cost 40 MB.
 */
export class DiskChild {
  #child: ChildProcessWithoutNullStreams | null = null;
  #pending: { readonly done: (answer: DiskAnswer | null) => void } | null = null;
  #output = "";

  /** The number of the process; null while there is none. */
  get pid(): number | null {
    return this.#child?.pid ?? null;
  }

  /** Whether a write has not ended yet. */
  get busy(): boolean {
    return this.#pending !== null;
  }

  /** Writes; one at a time. `done` gets null when the process ended without an answer. */
  ask(request: DiskRequest, done: (answer: DiskAnswer | null) => void): void {
    if (this.#pending !== null) return;
    if (/[\t\n]/.test(request.file + request.reserve)) {
      done(null);
      return;
    }
    this.#pending = { done };
    this.#child ??= this.#start();
    this.#child.stdin.write(`${request.file}\t${request.reserve}\n`);
  }

  /** Lets go of it, whether it can die now or not. */
  close(): void {
    const child = this.#child;
    this.#child = null;
    this.#pending = null;
    if (child === null) return;
    child.kill("SIGKILL");
    child.stdin.destroy();
    child.stdout.destroy();
    child.stderr.destroy();
    child.unref();
  }

  #start(): ChildProcessWithoutNullStreams {
    const child = spawn("/bin/sh", ["-c", script, "pgherd-disk-probe"], {
      cwd: "/",
      env: programEnvironment({}, false),
      stdio: ["pipe", "pipe", "pipe"],
      detached: true,
    });
    this.#output = "";
    const gone = (): void => {
      if (this.#child !== child) return;
      this.#child = null;
      this.#answer(null);
    };
    child.on("error", gone);
    child.on("exit", gone);
    child.stdin.on("error", () => undefined);
    child.stderr.resume();
    child.stdout.on("data", (chunk: Buffer) => {
      this.#output = (this.#output + chunk.toString("utf8")).slice(-outputLimit);
      const end = this.#output.indexOf("\n");
      if (end < 0) return;
      const line = this.#output.slice(0, end);
      this.#output = this.#output.slice(end + 1);
      this.#answer(readAnswer(line));
    });
    return child;
  }

  #answer(answer: DiskAnswer | null): void {
    const pending = this.#pending;
    this.#pending = null;
    pending?.done(answer);
  }
}

/** One line of the child as an answer. */
export function readAnswer(line: string): DiskAnswer {
  const [code = "", free = "", held = "", ...text] = line.split("\t");
  const [blocks, size] = free.split(" ").map(Number);
  const bytes = blocks === undefined || size === undefined ? NaN : blocks * size;
  return {
    ok: code === "0",
    freeBytes: free !== "" && Number.isFinite(bytes) ? bytes : null,
    reserveHeld: held === "1",
    text: text.join(" ").trim().slice(0, 500),
  };
}
