import type {
  AgentService,
  LocalPicture,
  MoveInput,
  RestartInput,
  SettingsView,
  StreamItem,
} from "../../src/agent/service.ts";
import type { Grant } from "../../src/cluster/failsafe.ts";
import type { ClusterEvent, DecisionRecord } from "../../src/cluster/decision.ts";
import type { RoutingOrder } from "../../src/agent/routing.ts";
import type { HistoryEntry } from "../../src/cluster/records.ts";
import type { ClusterState } from "../../src/cluster/state.ts";
import { fixtureRestores } from "./agent-restores.ts";
import { buildStatus } from "../../src/cluster/status.ts";
import type { Fault } from "../../src/values/fault.ts";
import type { NodeName } from "../../src/values/names.ts";
import type { WallTime } from "../../src/values/time.ts";
import {
  fixtureNow,
  primarySql,
  standbySql,
  nodeRecord,
  localPicture,
  clusterState,
  routerRecord,
} from "./agent-pictures.ts";

const name = (text: string): NodeName => text as NodeName;

const anEvent: ClusterEvent = {
  at: fixtureNow,
  node: "db1",
  event: "promoted",
  success: true,
  message: "db1 is primary on timeline 7",
  facts: { timeline: 7 },
};
const aDecision: DecisionRecord = {
  at: fixtureNow,
  node: "db1",
  rule: "L-01",
  summary: "the leader goes on",
  action: "none",
  why: "the lease is ours",
  facts: { token: 12, upstream: null },
  outcome: { ok: true, ms: 3, message: null },
};

/** An agent made of its fixtures: it answers for real, and writes down what it was asked. */
export class FixtureService implements AgentService {
  readonly identity = {
    cluster: "shop",
    namespace: "service",
    node: name("db1"),
    agentVersion: "0.1.0",
    apiUrl: "http://10.0.0.11:8008",
  };
  /** Every request that changes something, in order. */
  readonly calls: (readonly [string, ...unknown[]])[] = [];
  picture: LocalPicture = localPicture();
  clusterState: ClusterState | null;
  leader: NodeName | null = name("db1");
  view: SettingsView = {
    stored: { ttl: "5s" },
    effective: { ttl: "5s", max_lag_on_failover: "1MB" },
    version: 3,
  };
  failsafe = false;
  /** Thrown by every request while set. */
  refusal: Fault | null = null;
  /** Who leads after a move; null = its candidate. */
  movedTo: NodeName | null = null;
  conditionsHold = true;
  readonly listeners = new Set<(item: StreamItem) => void>();
  readonly restores = fixtureRestores((...call) => this.calls.push(call));

  constructor() {
    this.clusterState = clusterState([nodeRecord("db1", primarySql()), nodeRecord("db2", standbySql())]);
  }

  /** Tells every subscriber. */
  tell(item: StreamItem): void {
    for (const listener of this.listeners) listener(item);
  }

  tellEvent(): void {
    this.tell({ kind: "event", event: anEvent });
  }

  status(): ReturnType<AgentService["status"]> {
    return buildStatus(this.clusterState, {
      cluster: this.identity.cluster,
      paused: this.picture.paused,
      failover: "automatic",
      durability: "async",
      wall: "2026-11-18T09:30:00.000Z" as WallTime,
      leader: this.leader,
      leaderSince: "2026-11-18T09:00:00.000Z",
      dcsReachable: this.picture.dcsReachable,
      dcsAgeMs: this.picture.dcsAgeMs,
      failsafe: { active: this.failsafe, refusals: "" },
      awayAfterMs: 7500,
      heardMs: new Map([...(this.clusterState?.nodes.keys() ?? [])].map((node) => [node, 400])),
      routerHeardMs: () => 700,
      receiverHeardMs: () => 300,
      clockAheadMs: () => null,
    });
  }
  local(): LocalPicture {
    return this.picture;
  }
  state(): ClusterState | null {
    return this.clusterState;
  }
  history(): readonly HistoryEntry[] {
    return this.clusterState?.history.value ?? [];
  }
  decisions(limit: number): readonly DecisionRecord[] {
    return [aDecision, aDecision].slice(-limit);
  }
  events(limit: number): readonly ClusterEvent[] {
    return [anEvent, anEvent].slice(-limit);
  }
  subscribe(listener: (item: StreamItem) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
  settings(): SettingsView {
    return this.view;
  }

  planMove(input: MoveInput): ReturnType<AgentService["planMove"]> {
    return this.#asked(["planMove", input], {
      from: this.leader,
      to: name(input.candidate ?? "db2"),
      checks: [{ name: "lag", ok: true, detail: "0 bytes of at most 1048576" }],
      steps: ["checkpoint db1", "promote db2"],
      sessions: null,
    });
  }
  move(input: MoveInput, timeoutMs: number): ReturnType<AgentService["move"]> {
    return this.#asked(["move", input, timeoutMs], {
      id: "move-1",
      done: input.scheduledAt === null,
      leader: this.movedTo ?? name(input.candidate ?? "db2"),
      code: null,
      message: "db2 is primary on timeline 8",
      at: fixtureNow,
    });
  }
  cancelMove(): Promise<void> {
    return this.#asked(["cancelMove"], undefined);
  }
  patchSettings(patch: unknown, options: unknown): ReturnType<AgentService["patchSettings"]> {
    return this.#asked(["patchSettings", patch, options], { diff: ["+ pause: true"], view: this.view });
  }
  replaceSettings(document: unknown, options: unknown): ReturnType<AgentService["replaceSettings"]> {
    return this.#asked(["replaceSettings", document, options], { diff: [], view: this.view });
  }
  restart(input: RestartInput): Promise<boolean> {
    return this.#asked(["restart", input], this.conditionsHold);
  }
  reload(): ReturnType<AgentService["reload"]> {
    return this.#asked(["reload"], { changed: ["tags"], pendingRestart: false });
  }
  reinit(input: { fromLeader: boolean; dryRun: boolean }): ReturnType<AgentService["reinit"]> {
    return this.#asked(["reinit", input], { source: name("db1") });
  }
  removeNode(node: string, options: { dryRun: boolean }): Promise<void> {
    return this.#asked(["removeNode", node, options], undefined);
  }
  grant(grant: Grant): Promise<void> {
    return this.#asked(["grant", grant], undefined);
  }
  roleVerifier(role: string): Promise<string | null> {
    return this.#asked(["roleVerifier", role], role === "nologin" ? null : "SCRAM-SHA-256$4096:c2FsdA==$a:b");
  }
  routers(): ReturnType<AgentService["routers"]> {
    return {
      routers: [{ record: routerRecord("r1"), heardMs: 700 }],
      orders: { detached: [name("db2")], draining: [], pausedUntil: null },
    };
  }
  orderRouting(order: RoutingOrder): ReturnType<AgentService["orderRouting"]> {
    return this.#asked(["orderRouting", order], {
      detached: order.kind === "detach" ? [name(order.node)] : [],
      draining: [],
      pausedUntil: null,
    });
  }
  reachability(): ReturnType<AgentService["reachability"]> {
    return Promise.resolve([
      {
        from: name("db1"),
        to: name("db2"),
        channel: "api",
        ok: false,
        ms: null,
        problem: "connect ECONNREFUSED",
      },
    ]);
  }

  #asked<T>(call: readonly [string, ...unknown[]], reply: T): Promise<T> {
    this.calls.push(call);
    return this.refusal === null ? Promise.resolve(reply) : Promise.reject(this.refusal);
  }
}
