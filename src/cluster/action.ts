import type { FaultCode } from "../values/fault.ts";
import type { Lsn } from "../values/lsn.ts";
import type { FencingToken, NodeName, Timeline } from "../values/names.ts";
import type { View } from "./view.ts";

/** Everything a round can decide to do. Each kind has exactly one executor (agent/executors.ts; a missing one does not compile). */
export type Action =
  /** Nothing; the next wake-up decides anew. */
  | { readonly kind: "wait" }
  /** Nothing by itself, and a person should know why. */
  | {
      readonly kind: "alarm";
      readonly code: FaultCode;
      readonly message: string;
      readonly detail?: string | null;
      readonly hint?: string | null;
    }
  /** P3: end every process of the instance now. */
  | { readonly kind: "fence" }
  /** End a PostgreSQL that somebody else started on our data directory. */
  | { readonly kind: "stop-foreign" }
  /** Be the one who makes the cluster's data: initialisation and first lease in one transaction. */
  | { readonly kind: "claim-bootstrap" }
  /** initdb, first start, roles, serve. */
  | { readonly kind: "bootstrap" }
  /** Found the cluster on the data directory that is already here. */
  | { readonly kind: "adopt" }
  /** Set aside what an unfinished bootstrap left here, now that another node has made the cluster. */
  | { readonly kind: "discard-provisional" }
  | { readonly kind: "clone"; readonly source: NodeName }
  /** Start read-only, streaming from `upstream` when given. */
  | { readonly kind: "start-standby"; readonly upstream: NodeName | null }
  /** Start able to write: the holder resumes its own timeline. */
  | { readonly kind: "start-primary" }
  | { readonly kind: "promote"; readonly timeline: Timeline }
  /** The promotion is done: state serving, history, mirrors. */
  | { readonly kind: "declare-serving" }
  /** Go on leading: slots, settings, published position. */
  | { readonly kind: "lead" }
  /** Go on following `upstream`; point there first when the configuration points elsewhere. */
  | { readonly kind: "follow"; readonly upstream: NodeName | null }
  /** A stopped node: find out whether it can follow, must be rewound or must be copied, and do it. */
  | { readonly kind: "rejoin"; readonly leader: NodeName }
  /** A running standby that does not stream: the same question. */
  | { readonly kind: "examine"; readonly leader: NodeName }
  /** The holder's PostgreSQL is dead: release the lease with its end of WAL (P7). */
  | { readonly kind: "handover"; readonly candidate: NodeName | null }
  /** The holder's disk hangs: end what can be ended and release; what cannot die is left to the deadline (P3). */
  | { readonly kind: "step-down"; readonly candidate: NodeName | null }
  /** Give up the room set aside, so that PostgreSQL can start on a full disk. */
  | { readonly kind: "free-reserve" }
  /** End receiving, measure, publish the position for `token` (F2). */
  | { readonly kind: "ballot"; readonly token: FencingToken }
  /** F3: the WAL this candidate lacks, from a receiver that has promised; then it reports anew. */
  | {
      readonly kind: "take-wal";
      readonly token: FencingToken;
      readonly receiver: NodeName;
      readonly upTo: { readonly timeline: Timeline; readonly lsn: Lsn };
    }
  /**
   * F4, for exactly this token and over exactly this version of the durability record. resume: on the timeline that ended
   * here, without promotion.
   */
  | {
      readonly kind: "take-lease";
      readonly resume: boolean;
      readonly token: FencingToken;
      readonly recordVersion: number;
    }
  /** Stop cleanly, release with the end of WAL, follow the candidate. */
  | { readonly kind: "switchover"; readonly candidate: NodeName }
  /** Forget the recorded request and say why. */
  | { readonly kind: "refuse-move"; readonly code: FaultCode; readonly message: string }
  /** The whole cluster goes back: stop, make the restored state the cluster's line, put it in place of the data. */
  | { readonly kind: "restore-cluster" }
  /** Put the restored data in place of the old, which the cluster has left already. */
  | { readonly kind: "swap-restored" }
  | { readonly kind: "restart" }
  | { readonly kind: "reinit"; readonly source: NodeName }
  /** Stop PostgreSQL because the agent ends; a leader releases first. */
  | { readonly kind: "shutdown" };

/** What a rule answers: what to do, why in this round's numbers, and the facts it rests on. */
export interface Verdict {
  readonly action: Action;
  readonly why: string;
  readonly facts?: Readonly<Record<string, string | number | boolean | null>>;
}

/** A verdict with the rule that gave it. */
export interface Decision extends Verdict {
  readonly rule: string;
  readonly summary: string;
  readonly facts: Readonly<Record<string, string | number | boolean | null>>;
}

/** One row of a rule table. The first row that answers decides. */
export interface Rule {
  /** Stable id, listed in docs/spec/failover.md. */
  readonly id: string;
  readonly summary: string;
  readonly answer: (view: View) => Verdict | null;
}
