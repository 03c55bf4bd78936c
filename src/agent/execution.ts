import type { Action, Decision } from "../cluster/action.ts";
import type { AgentContext } from "./context.ts";

/** One action being carried out: the decision it comes from, and how long work reports where it is. */
export interface Execution<A extends Action = Action> {
  readonly context: AgentContext;
  readonly action: A;
  readonly decision: Decision;
  /** Aborted when the node must be fenced, or the agent ends. */
  readonly signal: AbortSignal;
  readonly step: (step: string, doneBytes?: number | null, totalBytes?: number | null) => void;
}

export type Executor<A extends Action> = (execution: Execution<A>) => Promise<void>;
