import type { Grant } from "../cluster/failsafe.ts";
import type { NodeRecord } from "../cluster/records.ts";
import type { NodeName } from "../values/names.ts";

/** What an agent answers to another that asks whether it and its PostgreSQL are there. */
export interface Pulse {
  readonly node: NodeName;
  /** Its PostgreSQL answered it lately. */
  readonly postgres: boolean;
}

/** The other agents, asked directly and not through the DCS. */
export interface Peers {
  /** Asks the agent of the node; null = no answer within the limit. */
  pulse(node: NodeRecord, timeoutMs: number): Promise<Pulse | null>;
  /** Whether the node's PostgreSQL takes connections: it accepts one and answers its first bytes. */
  answersPostgres(node: NodeRecord, timeoutMs: number): Promise<boolean>;
  /** Asks the node for a grant (failsafe). @returns null = it is given, and durable there; else why not, silence too */
  grant(node: NodeRecord, grant: Grant, timeoutMs: number): Promise<string | null>;
}
