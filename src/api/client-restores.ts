import type { RecoveryPicture, RecoveryPlan } from "../agent/recovery.ts";
import type { RestoreJob, RestoreSummary, RestoreWish, WishedState } from "../agent/restore-port.ts";
import { Fault } from "../values/fault.ts";
import { fromWire, type Wire } from "./wire.ts";

/** The part of an agent's API that restores. */
export interface RestoreClient {
  /** What a restore to a directory of that agent's host would do. */
  planRestore(wish: RestoreWish): Promise<RestoreSummary>;
  /** Begins one; answers when it was found possible. */
  startRestore(wish: RestoreWish): Promise<RestoreJob>;
  restoreJob(id: string): Promise<RestoreJob>;
  cancelRestore(id: string): Promise<void>;
  /** What putting the whole cluster back to a state would do; asked of its leader. */
  planRecovery(state: WishedState, jobs: number): Promise<Wire<RecoveryPlan>>;
  /** @param cluster its name, as a word of confirmation */
  startRecovery(state: WishedState, jobs: number, cluster: string): Promise<Wire<RecoveryPicture>>;
  /** null = there never was one. */
  recovery(): Promise<Wire<RecoveryPicture> | null>;
  cancelRecovery(): Promise<void>;
}

type Ask = (method: string, path: string, body?: unknown, timeoutMs?: number) => Promise<unknown>;

/** A plan reads the catalogue, and the WAL around its target, over the network. */
const planMs = 120_000;

/** The requests about restores, by whatever asks. */
export function restoreClient(ask: Ask): RestoreClient {
  return {
    planRestore: async (wish) =>
      fromWire(
        await ask("POST", "/v1/restores", { ...bodyOf(wish), dry_run: true }, planMs),
      ) as RestoreSummary,
    startRestore: async (wish) =>
      fromWire(await ask("POST", "/v1/restores", bodyOf(wish), planMs)) as RestoreJob,
    restoreJob: async (id) =>
      fromWire(await ask("GET", `/v1/restores/${encodeURIComponent(id)}`)) as RestoreJob,
    cancelRestore: async (id) => {
      await ask("DELETE", `/v1/restores/${encodeURIComponent(id)}`);
    },
    planRecovery: async (state, jobs) =>
      fromWire(
        await ask("POST", "/v1/recovery", { ...state, jobs, dry_run: true }, planMs),
      ) as Wire<RecoveryPlan>,
    startRecovery: async (state, jobs, cluster) =>
      fromWire(
        await ask("POST", "/v1/recovery", { ...state, jobs, cluster }, planMs),
      ) as Wire<RecoveryPicture>,
    recovery: async () => {
      try {
        return fromWire(await ask("GET", "/v1/recovery")) as Wire<RecoveryPicture>;
      } catch (thrown) {
        if (thrown instanceof Fault && thrown.code === "NOT_FOUND") return null;
        throw thrown;
      }
    },
    cancelRecovery: async () => {
      await ask("DELETE", "/v1/recovery");
    },
  };
}

function bodyOf({ tablespacesBelow, ...wish }: RestoreWish): Readonly<Record<string, unknown>> {
  return { ...wish, tablespaces_below: tablespacesBelow };
}
