import { awayAfterMs } from "../cluster/policy.ts";
import type { NodeRecord } from "../cluster/records.ts";
import { encodeRecord, keys } from "../dcs/layout.ts";
import { Fault, toFault } from "../values/fault.ts";
import { elapsedMs, type Instant } from "../values/time.ts";
import { dcsTimeoutMs, type AgentContext } from "./context.ts";

/**
 * Makes sure that no other agent acts under this node's name, before anything else is written under it: neither its record
 * nor, above all, a lease that carries the name.
 */
export class NodeNameClaim {
  readonly #context: AgentContext;
  #foreign: { readonly sequence: number; readonly at: Instant } | null = null;

  constructor(context: AgentContext) {
    this.#context = context;
  }

  /**
   * One look; `own` is this node's record as it would be written. Another's record is written over when it has not grown
   * for a while; of two that claim at once the store lets one win.
   * @returns whether the name is this agent's now. @throws Fault NODE_NAME_IN_USE
   */
  async attempt(own: NodeRecord): Promise<boolean> {
    const { mirror, options, settings, clock } = this.#context;
    const record = mirror.state?.nodes.get(options.node)?.value;
    if (record?.nodeId === options.nodeId) return true;
    if (record !== undefined) {
      this.#foreign ??= { sequence: record.sequence, at: clock.now() };
      if (record.sequence !== this.#foreign.sequence) throw nameInUse(this.#context, record);
      if (elapsedMs(this.#foreign.at, clock.now()) <= awayAfterMs(settings().ttlMs)) return false;
    }
    return this.#claim(own);
  }

  async #claim(own: NodeRecord): Promise<boolean> {
    const { dcs, mirror, settings, log } = this.#context;
    const key = keys.node(own.name);
    const timeoutMs = dcsTimeoutMs(settings().ttlMs);
    try {
      const result = await dcs.transact(
        {
          checks: [{ key, version: mirror.entry(key)?.version ?? 0 }],
          writes: [{ key, value: encodeRecord(own) }],
        },
        timeoutMs,
      );
      if (result.outcome === "committed") return true;
      await mirror.refresh(timeoutMs);
    } catch (thrown) {
      log("debug", "name.claim_failed", { code: toFault(thrown).code });
    }
    return false;
  }
}

/** Two agents under one name. */
export function nameInUse(context: AgentContext, other: NodeRecord): Fault {
  return new Fault(
    "NODE_NAME_IN_USE",
    `Another agent already runs as node ${context.options.node} of ${context.options.cluster}.`,
    {
      detail: `It runs on ${other.host} and answers at ${other.apiUrl}.`,
      hint: "Give this node another name in its node file, or stop the other agent.",
    },
  );
}
