import { spawn } from "node:child_process";

/** A child of the daemon: a process of the same program, with a channel for messages. */
export interface Child {
  readonly pid: number | null;
  /** Sends a message; one that cannot arrive any more is dropped, and the end of the child says so. */
  send(message: object): void;
  kill(signal: NodeJS.Signals): void;
}

export interface ChildEvents {
  readonly message: (message: unknown) => void;
  /** Called once, also for a child that could not be started. */
  readonly ended: (how: string) => void;
}

/** Starts `pgherd ARGUMENTS`. */
export type StartChild = (args: readonly string[], events: ChildEvents) => Child;

/**
 * How glibc gives memory out, for the children: one arena for all threads, and large buffers back to the system when they are freed.
 * A job handles many of a megabyte, and would keep half as much again. What is set already stays.
 */
const allocator = { MALLOC_ARENA_MAX: "1", MALLOC_MMAP_THRESHOLD_: "262144" };

/** Children of this program; what they log goes where this process logs. */
export function childrenOf(command: readonly string[]): StartChild {
  const [program = process.execPath, ...before] = command;
  return (args, events) => {
    const child = spawn(program, [...before, ...args], {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
      env: { ...allocator, ...process.env },
    });
    let over = false;
    const end = (how: string): void => {
      if (over) return;
      over = true;
      events.ended(how);
    };
    child.on("message", events.message);
    child.on("error", (error) => {
      // Also a message that could not be sent; a child that lives is ended by its own `exit`.
      if (child.pid === undefined) end(error.message);
    });
    child.on("exit", (code, signal) =>
      end(signal === null ? `exit code ${code ?? "?"}` : `signal ${signal}`),
    );
    return {
      pid: child.pid ?? null,
      send: (message) => {
        if (child.connected) child.send(message, () => undefined);
      },
      kill: (signal) => void child.kill(signal),
    };
  };
}
