import { readFile } from "node:fs/promises";
import type { z } from "zod";
import type {
  MoveInput,
  MovePlan,
  Reach,
  RestartInput,
  SettingsChange,
  SettingsView,
} from "../agent/service.ts";
import type { ClusterEvent, DecisionRecord } from "../cluster/decision.ts";
import type { MoveOutcome } from "../cluster/records.ts";
import type { ClusterStatus } from "../cluster/status.ts";
import { Fault } from "../values/fault.ts";
import type { Secret } from "../values/secret.ts";
import { askOnce, type Question } from "./client-request.ts";
import { restoreClient, type RestoreClient } from "./client-restores.ts";
import type { routers as routersShape, routingBody } from "./v1/schemas-routers.ts";
import { fromWire, type HistoryLine, type NodePicture } from "./wire.ts";

/** Whom to ask, and with what. */
export interface ApiClientOptions {
  /** Base URLs of agents, such as `http://10.0.0.11:8008`; asked in turn until one answers. */
  readonly urls: readonly string[];
  /** Needed for everything that changes something. */
  readonly token?: Secret | null;
  /** Certificate authorities for https, in PEM; absent = those of the system. */
  readonly caFile?: string | null;
  /** For one answer of one agent; requests that wait for work to end take longer by what they say. */
  readonly timeoutMs: number;
}

/** How a change of the settings is to be made. */
export interface ChangeOptions {
  readonly dryRun: boolean;
  /** The version the change was made from; null = whatever is there. */
  readonly version: number | null;
}

/**
 * The API of an agent in TypeScript. Every call throws the agent's own Fault, or API_UNREACHABLE when none answers, or
 * TIMEOUT when a change was sent and its answer did not come.
 */
export interface ApiClient extends RestoreClient {
  status(): Promise<ClusterStatus>;
  node(): Promise<NodePicture>;
  history(): Promise<readonly HistoryLine[]>;
  /** Newest last. */
  events(limit: number): Promise<readonly ClusterEvent[]>;
  /** Newest last. */
  decisions(limit: number): Promise<readonly DecisionRecord[]>;
  settings(): Promise<SettingsView>;
  reachability(): Promise<readonly Reach[]>;

  planMove(input: MoveInput): Promise<MovePlan>;
  /** Waits for the end of the move, up to `timeoutMs`. */
  move(input: MoveInput, timeoutMs: number): Promise<MoveOutcome>;
  cancelMove(): Promise<void>;
  patchSettings(patch: unknown, options: ChangeOptions): Promise<SettingsChange>;
  replaceSettings(document: unknown, options: ChangeOptions): Promise<SettingsChange>;
  pause(): Promise<SettingsChange>;
  resume(): Promise<SettingsChange>;
  /** Restarts PostgreSQL of the node that answers; false when a condition did not hold. */
  restart(input: RestartInput): Promise<boolean>;
  reload(): Promise<{ readonly changed: readonly string[]; readonly pendingRestart: boolean }>;
  reinit(input: {
    readonly fromLeader: boolean;
    readonly dryRun: boolean;
  }): Promise<{ readonly source: string }>;
  removeNode(name: string, options: { readonly dryRun: boolean }): Promise<void>;
  routers(): Promise<RoutersReport>;
  /** Orders something of all routers. */
  orderRouting(order: z.input<typeof routingBody>): Promise<RoutersReport["orders"]>;
}

/** The routers as `GET /v1/routers` tells of them. */
export type RoutersReport = z.output<typeof routersShape>;
export type RouterReport = RoutersReport["routers"][number];

/** How long past its own limit a request that waits for work may take to answer. */
const graceMs = 5000;
/** How long a restart without a limit of its own may take. */
const longRestartMs = 300_000;

/** A client that asks the agents at these URLs. Nothing is sent before the first call. */
export function createApiClient(options: ApiClientOptions): ApiClient {
  const ask = createAsker(options);
  const read = async <T>(path: string): Promise<T> => (await ask("GET", path)) as T;
  const write = async <T>(
    method: string,
    path: string,
    body?: unknown,
    timeoutMs = options.timeoutMs,
  ): Promise<T> => (await ask(method, path, body, timeoutMs)) as T;
  return {
    ...restoreClient(ask),
    status: () => read("/v1/status"),
    node: async () => fromWire(await ask("GET", "/v1/node")) as NodePicture,
    history: () => read("/v1/history"),
    events: (limit) => read(`/v1/events?limit=${limit}`),
    decisions: (limit) => read(`/v1/decisions?limit=${limit}`),
    settings: () => read("/v1/settings"),
    reachability: async () =>
      (await ask("GET", "/v1/reachability", undefined, options.timeoutMs + graceMs)) as Reach[],

    planMove: (input) => write("POST", `/v1/${input.kind}`, { ...moveBody(input), dry_run: true }),
    move: (input, timeoutMs) =>
      write(
        "POST",
        `/v1/${input.kind}`,
        { ...moveBody(input), timeout_s: timeoutMs / 1000 },
        timeoutMs + graceMs,
      ),
    cancelMove: async () => {
      await ask("DELETE", "/v1/switchover");
    },
    patchSettings: (patch, change) => write("PATCH", `/v1/settings${changeQuery(change)}`, patch),
    replaceSettings: (document, change) => write("PUT", `/v1/settings${changeQuery(change)}`, document),
    pause: () => write("POST", "/v1/pause"),
    resume: () => write("POST", "/v1/resume"),
    restart: async (input) => {
      const body = {
        if_pending: input.ifPending,
        role: input.role,
        timeout_s: input.timeoutMs === null ? null : input.timeoutMs / 1000,
      };
      const limit = (input.timeoutMs ?? longRestartMs) + graceMs;
      return (await write<{ restarted: boolean }>("POST", "/v1/restart", body, limit)).restarted;
    },
    reload: async () => {
      const reply = await write<{ changed: string[]; pending_restart: boolean }>("POST", "/v1/reload");
      return { changed: reply.changed, pendingRestart: reply.pending_restart };
    },
    reinit: (input) => write("POST", "/v1/reinit", { from_leader: input.fromLeader, dry_run: input.dryRun }),
    routers: () => read("/v1/routers"),
    orderRouting: (order) => write("POST", "/v1/routing", order),
    removeNode: async (name, { dryRun }) => {
      await ask("DELETE", `/v1/nodes/${encodeURIComponent(name)}?dry_run=${dryRun}`);
    },
  };
}

function moveBody(input: MoveInput): Readonly<Record<string, unknown>> {
  const body = { candidate: input.candidate, leader: input.leader };
  return input.kind === "switchover"
    ? { ...body, scheduled_at: input.scheduledAt }
    : { ...body, accept_loss: input.acceptLoss };
}

function changeQuery(change: ChangeOptions): string {
  const version = change.version === null ? "" : `&version=${change.version}`;
  return `?dry_run=${change.dryRun}${version}`;
}

type Ask = (method: string, path: string, body?: unknown, timeoutMs?: number) => Promise<unknown>;

/** Asks the URLs in turn, the one that answered last first. */
function createAsker(options: ApiClientOptions): Ask {
  let preferred = 0;
  let authorities: Promise<string> | null = null;
  return async (method, path, body, timeoutMs = options.timeoutMs) => {
    if (options.caFile != null) authorities ??= readAuthorities(options.caFile);
    const question: Question = {
      method,
      path,
      body: body === undefined ? null : JSON.stringify(body),
      token: options.token ?? null,
      authorities: authorities === null ? null : await authorities,
      connectMs: options.timeoutMs,
      timeoutMs,
    };
    const failures: string[] = [];
    for (let turn = 0; turn < options.urls.length; turn += 1) {
      const index = (preferred + turn) % options.urls.length;
      const url = options.urls[index];
      if (url === undefined) break;
      const answer = await askOnce(url, question);
      if (answer.kind === "answered") {
        preferred = index;
        return answer.body;
      }
      failures.push(`${url}: ${answer.reason}`);
      // A change that may have arrived is not sent to a second agent: it could be made twice.
      if (answer.sent && method !== "GET") throw uncertain(failures);
    }
    throw new Fault("API_UNREACHABLE", "No agent answers", {
      detail: failures.length === 0 ? "No address of an agent is known." : failures.join("; "),
      hint: "See that an agent runs there (systemctl status pgherd-agent), or name another with --api URL.",
    });
  };
}

function uncertain(failures: readonly string[]): Fault {
  return new Fault("TIMEOUT", "The request was sent, but its answer did not come", {
    detail: `${failures.join("; ")}. It may have taken effect.`,
    hint: "Look with `pgherd status` and `pgherd events` before you repeat it.",
  });
}

async function readAuthorities(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (thrown) {
    throw new Fault("CONFIG_UNREADABLE", "The file of certificate authorities cannot be read", {
      detail: thrown instanceof Error ? thrown.message : file,
      hint: "Give a PEM file that you may read.",
      cause: thrown,
    });
  }
}
