import { Agent } from "node:http";
import { Agent as SecureAgent } from "node:https";
import { createSecureContext } from "node:tls";

/** An unused connection is closed after this long: before the agent does it, which keeps its side for five seconds. */
const idleMs = 4_000;
/** Unused connections to one agent. */
const mostIdle = 4;
const kept = { keepAlive: true, timeout: idleMs, maxFreeSockets: mostIdle };

/** Connections to agents that serve more than one question: making one costs both sides more than the question does. */
export class KeptConnections {
  readonly #plain = new Agent(kept);
  #secure: { readonly authorities: string | null; readonly agent: SecureAgent } | null = null;

  /** @param authorities PEM, null = those of the system; others than before are in force with the next connection, which is a new one */
  of(url: string, authorities: string | null): Agent {
    if (!url.startsWith("https:")) return this.#plain;
    // What the former ones vouched for closes by itself.
    if (this.#secure?.authorities !== authorities)
      this.#secure = {
        authorities,
        agent: new SecureAgent({
          ...kept,
          ...(authorities !== null && { secureContext: createSecureContext({ ca: authorities }) }),
        }),
      };
    return this.#secure.agent;
  }
}
