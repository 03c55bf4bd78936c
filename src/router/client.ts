import type { ListenerSettings } from "../config/router-config.ts";
import type { WireSocket } from "./wire-socket.ts";

/** How the router logs in to PostgreSQL on behalf of a client. Nothing in here is a plain password. */
export type BackendCredentials =
  /** Recovered from the client's proof, packed; good on every node, because they hold the same verifier. */
  | { readonly kind: "scram"; readonly keys: string }
  /** The hash PostgreSQL stores for an md5 user (`md5` + 32 hex digits). */
  | { readonly kind: "md5"; readonly stored: string }
  /** The client was admitted without a password: PostgreSQL must let the router in by its own pg_hba.conf. */
  | { readonly kind: "none" };

/** A client whose start-up is over: it has said who it is, a rule admits it, and it has proven it. AuthenticationOk is NOT sent yet. */
export interface AdmittedClient {
  /** Grows by one with each client of this router process. */
  readonly id: number;
  readonly socket: WireSocket;
  readonly listener: ListenerSettings;
  readonly user: string;
  readonly database: string;
  /** Every start-up parameter as it came, with user and database; protocol extensions (`_pq_.*`) left out. */
  readonly parameters: ReadonlyMap<string, string>;
  /** 3.0 -> 0, 3.2 -> 2: what was agreed with the client. */
  readonly protocolMinor: number;
  /** A walsender session (`replication` was set): passed through, never carried. */
  readonly replication: boolean;
  /** The address of the client itself: of the PROXY header where one is accepted. */
  readonly address: string;
  readonly port: number;
  readonly credentials: BackendCredentials;
  /** What the client is told as its key for cancel requests; one character per byte, 4 in 3.0. */
  readonly cancelKey: { readonly pid: number; readonly secret: string };
  /** Gives the client's place in the limits back; once, when its session has ended. */
  readonly release: () => void;
}
