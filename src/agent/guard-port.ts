import type { GuardView } from "../cluster/view.ts";
import type { Instant } from "../values/time.ts";

/** What ends PostgreSQL at the deadline of the lease without the agent (P4): guard processes, or a simulator's. */
export interface GuardPort {
  /** The guard's process number; null while there is none. */
  readonly pid: number | null;
  /** Begins to look for a guard; `onChange` is called when one comes, goes, or has acknowledged its first deadline. */
  open(onChange: () => void): void;
  /** The deadline after which no process of PostgreSQL may be left; `bootOffset` as in guard-protocol.ts. */
  arm(deadline: Instant, bootOffset: number): void;
  /** There is no PostgreSQL that could write: nothing to guard. */
  disarm(): void;
  /** The running postmaster, which is to be ended wherever its data directory is by then; null = none. */
  watch(postmasterPid: number | null): void;
  view(): GuardView;
  /** Whether a guard has acknowledged a deadline that lies ahead. */
  isArmed(): boolean;
  /** Lets go; `end`: there is nothing left to guard, else the guard stays for the next agent. */
  close(end: boolean): void;
}
