import type { NodeName } from "../../src/values/names.ts";
import { SimArchive } from "./archive/archive.ts";
import { Checkers, seconds, type Violation } from "./checkers.ts";
import { Client, type ClientCounts } from "./client.ts";
import { Engine } from "./engine.ts";
import { Faults, type FaultPlan } from "./faults.ts";
import type { Machine } from "./fault-tools.ts";
import { Host, type HostTraits } from "./host.ts";
import { Network } from "./network.ts";
import { nodeConfig, SimNode } from "./node.ts";
import type { ClusterNet } from "./postgres/cluster-net.ts";
import { Postgres } from "./postgres/postgres.ts";
import { Rng } from "./rng.ts";
import type { WorldTraits } from "./settings.ts";
import { SimStore } from "./store.ts";

/** How long a new cluster may take until all of its nodes stream. */
const formationMs = 40_000;
/** No life is shorter, however early its last fault is over. */
const shortestMs = 120_000;
/** How long the same may take after the last fault: copies are tried again after seconds. */
const wholeMs = 60_000;

export interface LifeOptions {
  readonly seed: number;
  readonly traits: WorldTraits;
  readonly faults: readonly FaultPlan[];
  /** Called with every line of the trace; null = none is made. */
  readonly trace: ((line: string) => void) | null;
  /** Ends the life earlier than drawn. */
  readonly endMs?: number;
}

/** How a life went. */
export interface Life {
  readonly seed: number;
  readonly violations: readonly Violation[];
  readonly simulatedMs: number;
  readonly events: number;
  readonly acknowledged: number;
  readonly promotions: number;
  readonly holderChanges: number;
  readonly lostUnprotected: number;
}

/** Lives one life: forms a cluster, breaks it as planned, lets it heal, and judges all of it. */
export async function live(options: LifeOptions): Promise<Life> {
  const world = new World(options);
  await world.run();
  const { engine, checkers, counts } = world;
  return {
    seed: options.seed,
    violations: checkers.violations,
    simulatedMs: engine.now,
    events: engine.count,
    acknowledged: counts.acknowledged,
    promotions: checkers.promotions,
    holderChanges: checkers.holderChanges,
    lostUnprotected: checkers.lostUnprotected,
  };
}

/** Everything there is in one life. */
export class World {
  readonly engine = new Engine();
  readonly rng: Rng;
  readonly network: Network;
  readonly store: SimStore;
  readonly checkers: Checkers;
  readonly nodes: SimNode[] = [];
  /** The backup server, whose WAL receiver is a member; null = there is none. */
  readonly archive: SimArchive | null;
  readonly traits: WorldTraits;
  readonly counts: ClientCounts = { commits: 0, acknowledged: 0, lastAcknowledged: 0 };
  readonly #options: LifeOptions;

  constructor(options: LifeOptions) {
    this.#options = options;
    const { traits, seed } = options;
    this.traits = traits;
    this.rng = new Rng(seed, "world");
    this.network = new Network(this.engine, new Rng(seed, "network"), traits.baseMs);
    this.store = new SimStore(this.engine, new Rng(seed, "store"), this.network);
    this.store.lostAnswers = traits.storeLostAnswers;
    this.checkers = new Checkers(
      this.engine,
      this.store,
      () => this.nodes.map((node) => node.postgres),
      () => this.archive?.postgres ?? null,
      (who, text) => this.trace(who, text),
    );
    const { engine, network, rng, checkers } = this;
    const net: ClusterNet = {
      engine,
      network,
      rng,
      traits: traits.postgres,
      observer: checkers,
      at: (host) => this.nodes.find((node) => node.name === host)?.postgres,
    };
    const find = (other: string): SimNode | undefined => this.nodes.find((node) => node.name === other);
    const hostOf = (name: NodeName, host: HostTraits): Host =>
      new Host(engine, new Rng(seed, `host ${name}`), name, host);
    this.archive =
      traits.archive === null
        ? null
        : new SimArchive(new Postgres(hostOf("b1" as NodeName, traits.archive), net, 5432), this.store, find);
    const findArchive = (other: string): SimArchive | undefined =>
      this.archive?.name === other ? this.archive : undefined;
    for (let index = 0; index < traits.nodes; index += 1) {
      const name = `n${index + 1}` as NodeName;
      const postgres = new Postgres(hostOf(name, traits.hosts[index]!), net, 5432);
      const config = nodeConfig(name, traits.settings, traits.tags[index]);
      this.nodes.push(new SimNode(postgres, this.store, config, find, findArchive));
    }
    const servers = this.nodes.map((node) => node.postgres);
    traits.clients.forEach((client, index) => {
      const place = { engine, network, rng: new Rng(seed, `client ${index}`) };
      new Client(`c${index}`, place, servers, client, this.counts).start();
    });
  }

  /** Every host with what runs on it. */
  get machines(): readonly Machine[] {
    return this.archive === null ? this.nodes : [...this.nodes, this.archive];
  }

  trace(who: string, text: () => string): void {
    this.#options.trace?.(`${(this.engine.now / 1000).toFixed(3).padStart(9)}  ${who.padEnd(8)} ${text()}`);
  }

  async run(): Promise<void> {
    const { traits, faults, endMs } = this.#options;
    for (const machine of this.machines) this.engine.after(this.rng.between(0, 1500), () => machine.start());
    const apart = await this.#untilWhole(formationMs);
    if (this.#ended()) return;
    if (apart !== null) this.checkers.report("I5", `${formationMs / 1000} s after the start ${apart}`);
    if (this.#ended()) return;
    await this.engine.run(this.engine.now + 2000);
    const changesBefore = this.checkers.holderChanges;
    const plan = new Faults(this);
    const healed = plan.begin(faults);
    await this.engine.run(Math.min(healed, endMs ?? Infinity));
    if (this.#ended() || endMs !== undefined) return;
    plan.healAll();
    await this.#checkRecovery(healed);
    // What it went through may show later than that.
    if (!this.#ended()) await this.engine.run(Math.max(this.engine.now, shortestMs));
    if (traits.calm && this.checkers.holderChanges > changesBefore && !this.#ended())
      this.checkers.report(
        "needless failover",
        "the lease changed hands although every fault stayed below the tolerance",
      );
    const primary = this.nodes.find(
      ({ postgres }) => postgres.server?.role === "primary" && postgres.server.accepting,
    );
    if (!this.#ended() && primary?.postgres.data != null)
      this.checkers.atTheEnd(primary.name, primary.postgres.data);
  }

  /** Runs until every node is there, for at most `ms`. @returns what is still missing; null = nothing */
  async #untilWhole(ms: number): Promise<string | null> {
    const end = this.engine.now + ms;
    for (;;) {
      const apart = this.#notStreaming();
      if (apart === null || this.engine.now >= end || this.#ended()) return apart;
      await this.engine.run(this.engine.now + 500);
    }
  }

  /** I5: once the faults have stopped, a writable primary within 3 x ttl, then all nodes whole. */
  async #checkRecovery(since: number): Promise<void> {
    const { traits, engine, checkers } = this;
    const { recoveryMs, promotionMs } = traits.postgres;
    // What PostgreSQL itself takes, and until a client has found the new primary, is not the protocol's.
    const allowance = recoveryMs[1] * 2 + promotionMs[1] + 15_000;
    const end = since + 3 * traits.ttlMs + allowance;
    while (this.counts.lastAcknowledged <= since && engine.now < end && !this.#ended())
      await engine.run(engine.now + 500);
    if (this.#ended()) return;
    if (this.counts.lastAcknowledged <= since && checkers.canElect() && !this.#blockedAsAsked())
      checkers.report(
        "I5",
        `no write for ${seconds(engine.now - since)} although all faults stopped at ${seconds(since)}`,
      );
    if (this.#ended()) return;
    const apart = await this.#untilWhole(since + wholeMs - engine.now);
    if (this.#ended()) return;
    if (apart !== null && checkers.canElect())
      checkers.report("I5", `${wholeMs / 1000} s after the last fault ${apart}`);
  }

  /** Whether writes stand still because somebody wanted it so. */
  #blockedAsAsked(): boolean {
    const settings = JSON.parse(this.store.values.get("config") ?? "{}") as {
      pause?: boolean;
      durability?: string;
    };
    return settings.pause === true;
  }

  #ended(): boolean {
    return this.checkers.violations.length > 0;
  }

  /** What keeps the cluster from being whole; null = it is. */
  #notStreaming(): string | null {
    const primaries = this.nodes.filter(
      ({ postgres }) => postgres.server?.role === "primary" && postgres.server.accepting,
    );
    const [primary] = primaries;
    if (primary === undefined || primaries.length > 1) return `there are ${primaries.length} primaries`;
    for (const { postgres, name } of this.nodes) {
      if (postgres === primary.postgres) continue;
      const { server } = postgres;
      if (server === null) return `${name} does not run`;
      if (server.receiver?.status !== "streaming") return `${name} does not stream`;
      const sender = [...(primary.postgres.server?.senders ?? [])].find((each) => each.standby === name);
      if (sender === undefined || sender.diverged) return `${name} does not stream from ${primary.name}`;
    }
    const received = this.archive?.stream?.sender;
    if (
      this.archive !== null &&
      (received == null || primary.postgres.server?.senders.has(received) !== true)
    )
      return `${this.archive.name} does not stream from ${primary.name}`;
    return null;
  }
}
