import { connect } from "node:net";
import type { ClusterState } from "../cluster/state.ts";
import { buildStatus, type ClusterStatus } from "../cluster/status.ts";
import { awayAfterMs } from "../cluster/policy.ts";
import { cloneSource } from "../cluster/candidates.ts";
import type { Grant } from "../cluster/failsafe.ts";
import type { HistoryEntry, MoveOutcome, NodeRecord } from "../cluster/records.ts";
import type { LocalRequest } from "../cluster/view.ts";
import type { DcsWrite } from "../dcs/dcs.ts";
import { parseClusterSettings } from "../config/cluster-settings.ts";
import { keys } from "../dcs/layout.ts";
import { parseRoutingOrders, type RoutingOrders } from "../dcs/layout-routers.ts";
import { Fault, toFault } from "../values/fault.ts";
import { parseNodeName, type NodeName } from "../values/names.ts";
import { elapsedMs, type Instant, type WallTime } from "../values/time.ts";
import type { Agent } from "./agent.ts";
import { dcsTimeoutMs, type AgentContext } from "./context.ts";
import type { AgentJournal } from "./journal.ts";
import { carryOutMove, currentLeader, planMove } from "./moves.ts";
import type { RecordKeeper } from "./record.ts";
import { orderRouting, routerPictures, type RoutingOrder } from "./routing.ts";
import type {
  AgentService,
  LocalPicture,
  MoveInput,
  MovePlan,
  Reach,
  RestartInput,
  SettingsChange,
  SettingsView,
} from "./service.ts";
import { changeSettings, settingsView } from "./settings-change.ts";

/** How long a reinit that was asked for may take to begin. */
const reinitWaitMs = 60_000;

/** What the outside reaches of an agent: pictures from memory, requests handed to the loop. */
export class AgentFacade implements AgentService {
  readonly identity: AgentService["identity"];
  readonly restores: AgentService["restores"];
  readonly #context: AgentContext;
  readonly #agent: Agent;
  readonly #record: RecordKeeper;
  readonly #journal: AgentJournal;
  readonly #startedAt: WallTime;
  readonly #reloadNode: () => Promise<readonly string[]>;

  constructor(parts: {
    readonly context: AgentContext;
    readonly agent: Agent;
    readonly record: RecordKeeper;
    readonly journal: AgentJournal;
    readonly restores: AgentService["restores"];
    /** Re-reads the node file; names what changed. */
    readonly reloadNode: () => Promise<readonly string[]>;
  }) {
    this.#context = parts.context;
    this.restores = parts.restores;
    this.#agent = parts.agent;
    this.#record = parts.record;
    this.#journal = parts.journal;
    this.#reloadNode = parts.reloadNode;
    this.#startedAt = parts.context.clock.wall();
    const { cluster, namespace, node, agentVersion, apiUrl } = parts.context.options;
    this.identity = { cluster, namespace, node, agentVersion, apiUrl };
  }

  status(): ClusterStatus {
    const { mirror, clock, settings, options, failsafe } = this.#context;
    const now = clock.now();
    const state = mirror.state;
    const granted = this.#grantedLeader();
    const leader = state === null ? null : (currentLeader(this.#context, state) ?? granted);
    const heardMs = new Map<NodeName, number>();
    for (const name of state?.nodes.keys() ?? [])
      heardMs.set(name, name === options.node ? 0 : mirror.heardMs(name, now));
    const { paused, failover, ttlMs, durability } = settings();
    return buildStatus(withSettingsProblem(this.#freshened(state)), {
      cluster: options.cluster,
      paused,
      failover,
      durability: durability.mode,
      wall: clock.wall(),
      leader,
      leaderSince: leader === null ? null : (state?.lease.value?.servingSince ?? null),
      dcsReachable: this.#agent.view?.dcs.reachable ?? false,
      dcsAgeMs: this.#dcsAgeMs(now),
      failsafe: { active: failsafe.active || granted !== null, refusals: failsafe.refusals },
      awayAfterMs: awayAfterMs(ttlMs),
      heardMs,
      receiverHeardMs: (receiver) => finiteOrNull(mirror.receiverHeardMs(receiver, now)),
      routerHeardMs: (router) => finiteOrNull(mirror.routerHeardMs(router, now)),
      clockAheadMs: (node) => (node === options.node ? null : mirror.clockAheadMs(node)),
    });
  }

  /** The leader that this node lets go on although its lease has run out here (failsafe); null = none. */
  #grantedLeader(): NodeName | null {
    const { keeper, membership } = this.#context;
    const standing = keeper.standing();
    const { grant } = membership;
    if (grant === null || standing.kind !== "expired" || standing.lease.holder !== grant.holder) return null;
    return standing.lease.token === grant.token ? grant.holder : null;
  }

  /** The recorded state with this node's own record as of its last round: newer than what it wrote. */
  #freshened(state: ClusterState | null): ClusterState | null {
    const own = this.#record.latest;
    if (state === null || own === null || !state.nodes.has(own.name)) return state;
    const nodes = new Map(state.nodes);
    nodes.set(own.name, { value: own, version: state.nodes.get(own.name)?.version ?? 0 });
    return { ...state, nodes };
  }

  local(): LocalPicture {
    const { clock, disk, keeper, settings } = this.#context;
    const now = clock.now();
    const standing = keeper.standing();
    const { paused, ttlMs } = settings();
    return {
      record: this.#record.latest ?? this.#record.build({ kind: "empty" }),
      postgres: this.#agent.facts,
      disk: disk.facts(),
      leads: standing.kind === "mine" && standing.lease.state === "serving",
      serving:
        standing.kind === "mine" && standing.lease.state === "serving"
          ? {
              token: standing.lease.token,
              timeline: standing.lease.timeline,
              forMs: Math.round(standing.remainingMs),
            }
          : null,
      loopAgeMs: elapsedMs(this.#agent.lastRound, now),
      dcsAgeMs: this.#dcsAgeMs(now),
      dcsReachable: this.#agent.view?.dcs.reachable ?? false,
      clusterUnlocked:
        standing.kind !== "mine" && standing.kind !== "other" && this.#grantedLeader() === null,
      paused,
      ttlMs,
      startedAt: this.#startedAt,
    };
  }

  #dcsAgeMs(now: Instant): number | null {
    const { contact } = this.#context.mirror;
    return contact === null ? null : elapsedMs(contact, now);
  }

  state(): ClusterState | null {
    return this.#context.mirror.state;
  }
  history(): readonly HistoryEntry[] {
    return this.#context.mirror.state?.history.value ?? [];
  }
  decisions(limit: number): ReturnType<AgentService["decisions"]> {
    return this.#journal.decisions(limit);
  }
  events(limit: number): ReturnType<AgentService["events"]> {
    return this.#journal.events(limit);
  }
  subscribe(listener: Parameters<AgentService["subscribe"]>[0]): () => void {
    return this.#journal.subscribe(listener);
  }
  settings(): SettingsView {
    return settingsView(this.#context);
  }

  planMove(input: MoveInput): Promise<MovePlan> {
    return Promise.resolve().then(() => planMove(this.#context, input));
  }

  move(input: MoveInput, timeoutMs: number): Promise<MoveOutcome> {
    return carryOutMove(this.#context, input, timeoutMs);
  }

  async cancelMove(): Promise<void> {
    const { mirror, dcs, settings, journal } = this.#context;
    const state = await mirror.refresh(dcsTimeoutMs(settings().ttlMs));
    if (state.move.value?.scheduledAt == null)
      throw new Fault("NOT_FOUND", "No switchover is scheduled.", {
        detail: "Nothing was changed.",
        hint: "See `pgherd status`.",
      });
    const result = await dcs.transact(
      {
        checks: [{ key: keys.failover, version: state.move.version }],
        writes: [{ key: keys.failover, value: "{}" }],
      },
      dcsTimeoutMs(settings().ttlMs),
    );
    if (result.outcome === "conflict")
      throw new Fault("DCS_CONFLICT", "The scheduled switchover changed at the same moment.");
    journal.event(
      "switchover_cancelled",
      true,
      `the switchover scheduled for ${state.move.value.scheduledAt} was cancelled`,
    );
  }

  patchSettings(
    patch: unknown,
    options: { dryRun: boolean; version: number | null },
  ): Promise<SettingsChange> {
    return changeSettings(this.#context, "patch", patch, options);
  }
  replaceSettings(
    document: unknown,
    options: { dryRun: boolean; version: number | null },
  ): Promise<SettingsChange> {
    return changeSettings(this.#context, "replace", document, options);
  }

  async restart(input: RestartInput): Promise<boolean> {
    const record = this.#record.latest;
    if (input.role !== null && record?.role !== input.role) return false;
    if (input.ifPending && (record?.pendingRestart.length ?? 0) === 0) return false;
    await this.#request({ kind: "restart" }, input.timeoutMs ?? 600_000);
    return true;
  }

  async reload(): Promise<{ changed: readonly string[]; pendingRestart: boolean }> {
    const changed = await this.#reloadNode();
    await this.#context.mirror.refresh(dcsTimeoutMs(this.#context.settings().ttlMs));
    this.#context.journal.event(
      "reloaded",
      true,
      changed.length === 0 ? "nothing changed" : `changed: ${changed.join(", ")}`,
    );
    this.#context.wake();
    return { changed, pendingRestart: (this.#record.latest?.pendingRestart.length ?? 0) > 0 };
  }

  reinit(input: { fromLeader: boolean; dryRun: boolean }): Promise<{ source: NodeName }> {
    return Promise.resolve().then(() => this.#reinit(input));
  }

  #reinit(input: { fromLeader: boolean; dryRun: boolean }): { source: NodeName } {
    const { mirror, keeper, options } = this.#context;
    const view = this.#agent.view;
    const leader = mirror.state === null ? null : currentLeader(this.#context, mirror.state);
    if (keeper.standing().kind === "mine")
      throw new Fault("REINIT_OF_LEADER", `${options.node} is the leader: its data is the cluster's.`, {
        detail: "Nothing was changed.",
        hint: "Switch over to another node first: pgherd switchover.",
      });
    if (leader === null || view === null)
      throw new Fault("NO_LEADER", "No node leads, so there is nothing to copy from.", {
        detail: "Nothing was changed.",
        hint: "Wait until a node leads: pgherd status --watch.",
      });
    const source = cloneSource(view, leader, input.fromLeader);
    if (input.dryRun) return { source };
    this.#checkFree();
    const { notebook, timers, wake } = this.#context;
    const request: LocalRequest = { kind: "reinit", fromLeader: input.fromLeader };
    // One that cannot begin soon is forgotten: long after, when this node has led meanwhile, nobody would expect it.
    const timer = timers.after(reinitWaitMs, () => {
      if (notebook.request?.request === request) notebook.request = null;
    });
    notebook.request = { request, done: () => timer.cancel() };
    wake();
    return { source };
  }

  #checkFree(): void {
    const { operation, request } = this.#context.notebook;
    const busy = operation?.kind ?? request?.request.kind;
    if (busy === undefined || busy === "follow") return;
    throw new Fault("OPERATION_RUNNING", `This node is busy: ${busy}.`, {
      detail: `${operation?.step ?? ""} Nothing was changed.`.trim(),
      hint: "Wait for its end: pgherd status --watch.",
    });
  }

  async #request(request: LocalRequest, timeoutMs: number): Promise<void> {
    this.#checkFree();
    const { notebook, timers, wake } = this.#context;
    await new Promise<void>((resolve, reject) => {
      const timer = timers.after(timeoutMs, () => {
        if (notebook.request?.request === request) notebook.request = null;
        reject(
          new Fault("TIMEOUT", `The ${request.kind} has not ended within ${Math.round(timeoutMs / 1000)} s.`),
        );
      });
      notebook.request = {
        request,
        done: (failure) => {
          timer.cancel();
          if (failure === null) resolve();
          else reject(toFault(failure));
        },
      };
      wake();
    });
  }

  async removeNode(name: string, options: { dryRun: boolean }): Promise<void> {
    const { mirror, dcs, settings, clock, journal } = this.#context;
    const state = await mirror.refresh(dcsTimeoutMs(settings().ttlMs));
    const node = parseNodeName(name);
    const record: NodeRecord | undefined = node === undefined ? undefined : state.nodes.get(node)?.value;
    if (node === undefined || record === undefined)
      throw new Fault("NODE_UNKNOWN", `The cluster has no node ${name}.`, {
        detail: "Nothing was changed.",
        hint: "See `pgherd status`.",
      });
    const leads = state.lease.value?.holder === node && state.lease.value.state !== "released";
    if (leads || mirror.heardMs(node, clock.now()) < awayAfterMs(settings().ttlMs))
      throw new Fault(
        "REMOVE_RUNNING_NODE",
        leads ? `${name} is the leader.` : `The agent of ${name} still runs.`,
        {
          detail: "Nothing was changed.",
          hint: leads
            ? "Switch over to another node first."
            : `Stop the agent on ${record.host} first, then wait ${Math.ceil(awayAfterMs(settings().ttlMs) / 1000)} s.`,
        },
      );
    if (options.dryRun) return;
    const writes: DcsWrite[] = [
      { key: keys.node(node), value: null },
      { key: keys.member(node), value: null },
    ];
    await dcs.transact({ checks: [], writes }, dcsTimeoutMs(settings().ttlMs));
    journal.event("node_removed", true, `${name} was removed`, { removed: name });
  }

  async roleVerifier(role: string): Promise<string | null> {
    const stored = await this.#context.instance.roleVerifier(role);
    if (stored === undefined) throw new Fault("NOT_FOUND", "There is no such role.");
    return stored;
  }

  routers(): ReturnType<AgentService["routers"]> {
    const { mirror } = this.#context;
    return {
      routers: routerPictures(this.#context),
      orders: parseRoutingOrders(mirror.entry(keys.routing)?.value ?? null),
    };
  }

  orderRouting(order: RoutingOrder): Promise<RoutingOrders> {
    return orderRouting(this.#context, order);
  }

  grant(grant: Grant): Promise<void> {
    return this.#context.failsafe.give(grant);
  }

  async reachability(): Promise<readonly Reach[]> {
    const records = [...(this.#context.mirror.state?.nodes.values() ?? [])].map((node) => node.value);
    const asked = records.flatMap((record) => {
      const api = new URL(record.apiUrl);
      return [
        this.#reach(record.name, "api", api.hostname, Number(api.port)),
        this.#reach(record.name, "postgres", record.host, record.port),
      ];
    });
    return [...(await Promise.all(asked)), ...this.#replicationReach()];
  }

  /** The replication channel is known without asking: a standby uses it to its upstream, and to nobody else. */
  #replicationReach(): Reach[] {
    const own = this.#record.latest;
    if (own?.upstream == null) return [];
    const problem = own.streaming ? null : `${own.name} is ${own.state}`;
    return [
      { from: own.name, to: own.upstream, channel: "replication", ok: own.streaming, ms: null, problem },
    ];
  }

  #reach(to: NodeName, channel: Reach["channel"], host: string, port: number): Promise<Reach> {
    const { options, clock, timers } = this.#context;
    const started = clock.now();
    return new Promise((resolve) => {
      const socket = connect({ host, port });
      const end = (problem: string | null): void => {
        timer.cancel();
        socket.destroy();
        const ms = problem === null ? Math.round(elapsedMs(started, clock.now())) : null;
        resolve({ from: options.node, to, channel, ok: problem === null, ms, problem });
      };
      const timer = timers.after(2000, () => end("no answer within 2 s"));
      socket.once("connect", () => end(null));
      socket.once("error", (error) => end(error.message));
    });
  }
}

/** Cluster settings that make no sense are garbage like any other; the last good ones are in force. */
function withSettingsProblem(state: ClusterState | null): ClusterState | null {
  const [problem] = parseClusterSettings(state?.settings.value ?? null).problems;
  if (state === null || problem === undefined) return state;
  return { ...state, garbage: [...state.garbage, { key: keys.config, problem: problem.message }] };
}

function finiteOrNull(ms: number): number | null {
  return Number.isFinite(ms) ? ms : null;
}
