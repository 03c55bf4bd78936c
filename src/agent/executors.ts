import type { Action } from "../cluster/action.ts";
import type { Executor } from "./execution.ts";
import { adopt, bootstrap, claimBootstrap, discardProvisional } from "./act-bootstrap.ts";
import { takeWal } from "./act-archive.ts";
import { freeReserve, stepDown } from "./act-gray.ts";
import { handover, promote, serve, switchover, takeLease, refuseMove } from "./act-leadership.ts";
import { clone, reinit } from "./act-copy.ts";
import {
  ballot,
  fence,
  follow,
  restart,
  shutdown,
  startPrimary,
  startStandby,
  stopForeign,
} from "./act-postgres.ts";
import { restoreCluster, swapRestored } from "./act-recovery.ts";
import { examine, rejoin } from "./act-rejoin.ts";

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
  "step-down": stepDown,
  "free-reserve": freeReserve,
  ballot,
  "take-wal": takeWal,
  "take-lease": takeLease,
  switchover,
  "refuse-move": refuseMove,
  "restore-cluster": restoreCluster,
  "swap-restored": swapRestored,
  restart,
  reinit,
  shutdown,
};
