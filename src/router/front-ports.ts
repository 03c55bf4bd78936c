import type { AccessRule, ListenerSettings, RouterSettings } from "../config/router-config.ts";
import type { Clock } from "../system/clock.ts";
import type { Timers } from "../system/timers.ts";
import type { Access } from "./access.ts";
import type { CancelKey, CancelKeys } from "./cancel.ts";
import type { CancelRelay } from "./cancel-relay.ts";
import type { AdmittedClient } from "./client.ts";
import type { ClientLimits } from "./limits.ts";
import type { NetworkMatcher } from "./networks.ts";
import type { ListenerCounters } from "./sessions.ts";
import type { ClientTls } from "./tls.ts";
import type { Verifiers } from "./verifiers.ts";

/** What the front of every listener shares. */
export interface FrontShared {
  /** Those of now: access rules, limits and timeouts may change while it runs. */
  readonly settings: () => RouterSettings;
  /** Of the rules of now. */
  readonly access: () => Access;
  readonly limits: ClientLimits;
  readonly cancels: CancelKeys;
  readonly relay: CancelRelay;
  readonly verifiers: Verifiers;
  /** The same on every router of the cluster and over restarts. */
  readonly mockSecret: Buffer;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: (event: string, fields: Readonly<Record<string, unknown>>) => void;
  /** A client whose start-up is over; taken over in the same step, with its reads stopped. */
  readonly onClient: (client: AdmittedClient) => void;
  /** The same for the console: by the database `pgherd`, or a listener of its own. */
  readonly onConsole: (client: AdmittedClient) => void;
  /** Whether a user may use the console, once it has proven who it is. */
  readonly mayAdminister: (user: string) => boolean;
  /** A client asks for its statement to be cancelled; `client` is its number. Resolves when the request is through. */
  readonly onCancel: (client: number) => Promise<void>;
  /** Asks the process that ran before this one, whose clients stay there; absent = there is none. */
  readonly askPredecessor?: ((request: CancelKey) => Promise<void>) | undefined;
}

/** One listener as its front sees it. */
export interface FrontListener {
  readonly settings: ListenerSettings;
  /** Whether it leads to the console alone. */
  readonly console: boolean;
  /** null = TLS is off. */
  readonly tls: ClientTls | null;
  /** From whom a PROXY header is believed. */
  readonly proxies: NetworkMatcher;
  readonly counters: ListenerCounters;
}

/** How a client comes in, by the rule that fits it. */
export interface Entrance {
  readonly method: "scram-sha-256" | "md5" | "trust" | "cert";
  readonly map: AccessRule["map"];
}
