import type { NodeRecord } from "../cluster/records.ts";
import type { FencingToken, Timeline } from "../values/names.ts";

/** What an agent says when it is asked whether its node serves. */
export interface Serving {
  readonly token: FencingToken;
  readonly timeline: Timeline;
  /** How long it goes on serving if it hears nothing more, in milliseconds, by its own clock. */
  readonly forMs: number;
}

/** The agents of the cluster, asked directly: what the store does not tell in time. */
export interface Agents {
  /** Whether the node serves; null = it does not, or there was no answer within the limit. */
  serving(node: NodeRecord, timeoutMs: number): Promise<Serving | null>;
  /**
   * Follows what the agent tells of the cluster, for as long as it is not stopped; connects again by itself.
   * @returns stops it
   */
  follow(node: NodeRecord, onStatus: (status: LeaderStatus) => void): () => void;
}

/** Who leads, as one agent sees it. */
export interface LeaderStatus {
  readonly leader: string | null;
  readonly token: number | null;
}
