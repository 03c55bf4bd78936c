import type { Action, Decision } from "../cluster/action.ts";
import type { AgentContext } from "./context.ts";
import { adopt, bootstrap, claimBootstrap, discardProvisional } from "./act-bootstrap.ts";
import { handover, promote, serve, switchover, takeLease, refuseMove } from "./act-leadership.ts";
import {
  ballot,
  clone,
  examine,
  fence,
  follow,
  reinit,
  rejoin,
  restart,
  shutdown,
  startPrimary,
  startStandby,
  stopForeign,
} from "./act-postgres.ts";

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

/** One executor for each kind of action: a missing one does not compile. `inline` ones end within the round. */
export const executors: { readonly [K in Action["kind"]]: Executor<Extract<Action, { kind: K }>> } = {
  wait: async () => {},
  alarm: async () => {},
  lead: async () => {},
  fence,
  "stop-foreign": stopForeign,
  "claim-bootstrap": claimBootstrap,
  bootstrap,
  adopt,
  "discard-provisional": discardProvisional,
  clone,
  "start-standby": startStandby,
  "start-primary": startPrimary,
  promote,
  "declare-serving": serve,
  follow,
  rejoin,
  examine,
  handover,
  ballot,
  "take-lease": takeLease,
  switchover,
  "refuse-move": refuseMove,
  restart,
  reinit,
  shutdown,
};
