import { readFile } from "node:fs/promises";
import { rootCertificates } from "node:tls";
import { z } from "zod";
import type { NodeRecord } from "../cluster/records.ts";
import type { Agents, LeaderStatus } from "../router/agents.ts";
import type { VerifierSource } from "../router/verifiers.ts";
import type { Timers } from "../system/timers.ts";
import { Fault, toFault } from "../values/fault.ts";
import { parseTimeline, parseToken, type NodeName } from "../values/names.ts";
import type { Secret } from "../values/secret.ts";
import { askOnce, type Question } from "./client-request.ts";
import { followStream } from "./event-stream.ts";
import { KeptConnections } from "./kept-connections.ts";

export interface RouterAgentsOptions {
  /** The cluster's token; null while it is not known. */
  readonly token: () => Secret | null;
  /** Vouches for agents that serve HTTPS, besides the authorities every program trusts. */
  readonly caFile: string | null;
  readonly timers: Timers;
}

/** One agent is not waited for longer than this while others could answer. */
const eachMs = 1_500;

const nodeReply = z.object({
  record: z.object({ name: z.string() }),
  serving: z.object({ token: z.number(), timeline: z.number(), for_ms: z.number() }).nullish(),
});
const verifierReply = z.object({ verifier: z.string().nullable() });
const statusEvent = z.object({ leader: z.string().nullable(), token: z.number().nullable() });

/** The agents as a router needs them, over their API. */
export class RouterAgents implements Agents {
  readonly #options: RouterAgentsOptions;
  /** Every login asks for a verifier. */
  readonly #kept = new KeptConnections();

  constructor(options: RouterAgentsOptions) {
    this.#options = options;
  }

  async serving(node: NodeRecord, timeoutMs: number): ReturnType<Agents["serving"]> {
    const answer = await askOnce(node.apiUrl, await this.#question("GET", "/v1/node", timeoutMs, false));
    if (answer.kind === "silent") return null;
    const reply = nodeReply.safeParse(answer.body);
    // An address may have changed hands: only the very node's word counts.
    if (!reply.success || reply.data.record.name !== node.name || reply.data.serving == null) return null;
    const token = parseToken(reply.data.serving.token);
    const timeline = parseTimeline(reply.data.serving.timeline);
    if (token === undefined || timeline === undefined) return null;
    return { token, timeline, forMs: reply.data.serving.for_ms };
  }

  follow(node: NodeRecord, onStatus: (status: LeaderStatus) => void): () => void {
    return followStream({
      url: node.apiUrl,
      authorities: () => this.#authorities(),
      timers: this.#options.timers,
      onEvent: (name, data) => {
        if (name !== "status") return;
        const status = statusEvent.safeParse(data);
        if (status.success) onStatus(status.data);
      },
    });
  }

  /** Verifiers from the nodes given, in their order: the primary's first, since it knows of the latest change. */
  verifiers(nodes: () => readonly NodeRecord[]): VerifierSource {
    return {
      find: async (user, signal) => {
        const failures: string[] = [];
        for (const node of nodes()) {
          if (signal.aborted) break;
          const path = `/v1/verifiers/${encodeURIComponent(user)}`;
          try {
            const question = await this.#question("GET", path, eachMs, true);
            const connections = this.#kept.of(node.apiUrl, question.authorities);
            const answer = await askOnce(node.apiUrl, { ...question, connections });
            if (answer.kind === "answered") return verifierReply.parse(answer.body).verifier;
            failures.push(`${node.name}: ${answer.reason}`);
          } catch (thrown) {
            const fault = toFault(thrown);
            if (fault.code === "NOT_FOUND") return null;
            failures.push(`${node.name}: ${fault.message}`);
          }
        }
        throw new Fault("API_UNREACHABLE", "No agent tells what is stored of the password", {
          detail: failures.length === 0 ? "No agent is known." : failures.join("; "),
        });
      },
    };
  }

  /** Gives all routers an order, through the first agent that takes it. @throws Fault */
  async orderRouting(
    nodes: readonly NodeRecord[],
    order: "detach" | "drain" | "attach",
    node: NodeName,
  ): Promise<void> {
    const body = JSON.stringify({ order, node });
    const failures: string[] = [];
    for (const { name, apiUrl } of nodes) {
      const question = { ...(await this.#question("POST", "/v1/routing", eachMs, true)), body };
      const answer = await askOnce(apiUrl, question);
      if (answer.kind === "answered") return;
      failures.push(`${name}: ${answer.reason}`);
      if (answer.sent) break;
    }
    throw new Fault("API_UNREACHABLE", "No agent took the order", { detail: failures.join("; ") });
  }

  async #question(method: string, path: string, timeoutMs: number, isSecret: boolean): Promise<Question> {
    return {
      method,
      path,
      body: null,
      token: isSecret ? this.#options.token() : null,
      authorities: await this.#authorities(),
      connectMs: timeoutMs,
      timeoutMs,
    };
  }

  /** Read with each question: a file that is renewed is in force at once. */
  async #authorities(): Promise<string | null> {
    const { caFile } = this.#options;
    if (caFile === null) return null;
    return [await readFile(caFile, "utf8"), ...rootCertificates].join("\n");
  }
}
