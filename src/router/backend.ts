import type { ServerMessage } from "../pgwire/encode.ts";
import type { FencingToken, NodeName } from "../values/names.ts";
import type { WireSocket } from "./wire-socket.ts";

/** Where a session goes: a node, and the token under which it may be written to. */
export interface Route {
  readonly node: NodeName;
  readonly host: string;
  readonly port: number;
  /** Of the lease by which the node is primary (F6); null = reached as a standby. */
  readonly token: FencingToken | null;
}

/** One connection to PostgreSQL, logged in and at rest when it is made. */
export interface Backend {
  readonly socket: WireSocket;
  /** The token is raised when the holder raises its own (F9). */
  route: Route;
  /** PostgreSQL's own key for cancel requests. */
  readonly pid: number;
  /** One character per byte: a Buffer this small would keep the large one alive that it was cut from. */
  readonly secret: string;
  /** The latest ParameterStatus of each parameter, shared by all who have the same; replaced when one changes. */
  parameters: ReadonlyMap<string, string>;
}

/** Whether the server says that it is in recovery; null = it is too old to say (before PostgreSQL 14). */
export function inRecovery(backend: Backend): boolean | null {
  const said = backend.parameters.get("in_hot_standby");
  return said === undefined ? null : said === "on";
}

/** Why there is no connection to PostgreSQL. */
export class BackendFailure extends Error {
  override readonly name = "BackendFailure";
  /**
   * unreachable: no connection, or it ended. not-ready: PostgreSQL starts, stops, recovers, or is not the primary asked for.
   * refused: PostgreSQL turned the client down, and would again.
   */
  readonly kind: "unreachable" | "not-ready" | "refused";
  /** What PostgreSQL said; null = nothing. */
  readonly said: ServerMessage | null;
  /** The very ErrorResponse, to be passed on; null = none came. */
  readonly answer: Buffer | null;

  constructor(
    kind: BackendFailure["kind"],
    what: string,
    said: ServerMessage | null = null,
    answer: Buffer | null = null,
  ) {
    super(what);
    this.kind = kind;
    this.said = said;
    this.answer = answer;
  }
}
