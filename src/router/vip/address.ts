import type { Clock } from "../../system/clock.ts";
import type { Timers } from "../../system/timers.ts";
import type { Instant } from "../../values/time.ts";
import type { RunTool } from "../host/tool.ts";

/** What stands on this host's interface now. */
export interface AddressFacts {
  /** Why the interface cannot carry the address: it is not there, or its link is down; null = it can. */
  readonly problem: string | null;
  readonly present: boolean;
  /** It was configured for ever by somebody else: it would stay when the lock is lost. */
  readonly permanent: boolean;
}

/**
 * placed: it is there. late: too little time is left before the deadline. refused: the guard has taken the address away and released the
 * lock, because this process stood still for too long.
 */
export type PutOutcome = "placed" | "late" | "refused";

/** A virtual address on this host. Everything takes a bounded time; what fails is a Fault with the tool's words. */
export interface VipAddress {
  inspect(): Promise<AddressFacts>;
  /** Who else answers for the address on the network, by its link-layer address; null = nobody. */
  takenBy(): Promise<string | null>;
  /** Places the address, or refreshes its lifetime, so that it is gone by the deadline by itself. */
  put(deadline: Instant): Promise<PutOutcome>;
  /** Takes the address away and cuts the connections it carried; harmless when it is not there. */
  remove(): Promise<void>;
  /** Tells the neighbours, several times over the next seconds; until stopped. @returns stops it */
  announce(): () => void;
}

/** What both ways to move an address need. */
export interface AddressPorts {
  readonly tool: RunTool;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: (event: string, fields: Readonly<Record<string, unknown>>) => void;
}
