/** Where a session goes. */
export interface DriverTarget {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
}

/** What a session holds on the server beside its connection. */
export interface HeldState {
  /** Of `app.tenant`, a setting no extension knows. */
  readonly tenant: string;
  readonly channel: string;
  /** The table with the column `n` that it writes to. */
  readonly table: string;
}

/** What the server says of a session. */
export interface SessionState {
  readonly work_mem: string;
  readonly tenant: string | null;
  readonly channels: readonly string[];
  /** Of the server, not of the router. */
  readonly port: number;
}

/** What a driver reported as failed. */
export class DriverFailure extends Error {
  /** The SQLSTATE the driver shows; null = it shows none. */
  readonly code: string | null;
  /** Whether the driver still takes its connection for open. */
  readonly open: boolean;
  constructor(message: string, code: string | null, open: boolean) {
    super(message);
    this.code = code;
    this.open = open;
  }
}

/** One connection of one driver. It is made once: nothing in here ever connects again. Failures: DriverFailure. */
export interface DriverSession {
  readonly name: string;
  /** Takes up settings, LISTEN and a prepared insert. */
  hold(state: HeldState): Promise<void>;
  /** One row by the prepared insert, in a transaction of its own. */
  write(number: number): Promise<void>;
  /** Several rows by the prepared insert in one explicit transaction; one that fails is rolled back. */
  transaction(numbers: readonly number[]): Promise<void>;
  /** Opens a transaction and writes one row in it. */
  begin(number: number): Promise<void>;
  commit(): Promise<void>;
  rollback(): Promise<void>;
  state(): Promise<SessionState>;
  /** The payloads of notifications since the last question. */
  heard(): Promise<readonly string[]>;
  close(): Promise<void>;
}
