import type { Tags } from "../../src/cluster/records.ts";
import type { SynchronousCommit } from "./postgres/backend.ts";
import type { PostgresTraits } from "./postgres/cluster-net.ts";
import type { ClientTraits } from "./client.ts";
import type { HostTraits } from "./host.ts";
import { Rng } from "./rng.ts";

/** Everything one life is made of besides its faults; drawn from the seed, because fixed timing hides bugs. */
export interface WorldTraits {
  /** Which sort of faults; null = all. */
  readonly scenario: string | null;
  /** Drawn as lives were before there were backup servers and faults of returning: so that a seed found then stays what it was. */
  readonly earlier: boolean;
  readonly nodes: number;
  /** The host of a backup server whose WAL receiver may count; null = there is none. */
  readonly archive: HostTraits | null;
  readonly ttlMs: number;
  /** suspect_after, as the life begins. */
  readonly suspectMs: number;
  /** What the node file of each node says of it beyond the ordinary. */
  readonly tags: readonly Partial<Tags>[];
  readonly baseMs: number;
  readonly storeLostAnswers: number;
  readonly lengthMs: number;
  /** Only disturbances below the stated tolerance: then the primary may not move. */
  readonly calm: boolean;
  readonly settings: Readonly<Record<string, unknown>>;
  /** Patches of the settings that an operator may make. */
  readonly changes: readonly Readonly<Record<string, unknown>>[];
  readonly hosts: readonly HostTraits[];
  readonly postgres: PostgresTraits;
  readonly clients: readonly ClientTraits[];
}

/** Scenarios of narrow windows: members that promise early, over a lease that leaves them the time. */
const windows: readonly string[] = ["returns", "records", "archive", "moments"];

/** Clocks differ by less than the drift the protocol allows for: 1 % between any two. */
const rateError = 0.0045;

export function drawTraits(seed: number, scenario: string | null, earlier = false): WorldTraits {
  const rng = new Rng(seed, "traits");
  const calm = scenario === "calm" || (scenario === null && rng.chance(0.1));
  const narrow = windows.includes(scenario ?? "");
  const later = !earlier && (scenario === null || narrow);
  const archive = earlier ? null : drawArchive(seed, scenario);
  const few = archive !== null ? [2, 2, 2, 3] : narrow ? [3] : [2, 3, 3, 3];
  const nodes = rng.pick(scenario === null ? [2, 3, 3, 3, 3, 5] : few);
  const ttls = [2000, 3000, 5000, 5000, rng.magnitude(2000, 10_000)];
  const patient = [4000, 5000, 5000, 7000, ttls.at(-1)!];
  const ttlMs = calm ? 5000 : Math.round(rng.pick(narrow ? patient : ttls));
  const baseMs = rng.magnitude(0.1, 8);
  const tags = drawTags(rng, nodes);
  // How many may count, whoever leads: what asks for more would stop writes, as it should.
  const counting = nodes - tags.filter(({ nosync }) => nosync === true).length;
  const promises = scenario === "promises" || narrow;
  const settings = {
    ...drawSettings(rng, { ttlMs, counting, calm, promises }),
    ...(archive !== null && drawOrder(seed, nodes)),
    // A leader that goes on without its standbys, and is lost as early as can be.
    ...(scenario === "records" && { durability: "degrade", suspect_after: "500ms" }),
  };
  return {
    scenario,
    earlier,
    nodes,
    archive,
    ttlMs,
    suspectMs:
      Number.parseInt(String(settings["suspect_after"]), 10) *
      (String(settings["suspect_after"]).endsWith("ms") ? 1 : 1000),
    tags,
    baseMs,
    calm,
    storeLostAnswers: calm || rng.chance(0.6) ? 0 : rng.magnitude(0.001, 0.05),
    lengthMs: rng.between(120_000, scenario === null ? 300_000 : 150_000),
    settings,
    changes: drawChanges(nodes, counting, archive !== null),
    hosts: Array.from({ length: nodes }, () => drawHost(rng)),
    postgres: {
      recoveryMs: [30, rng.magnitude(100, 4000)],
      promotionMs: [10, rng.magnitude(30, 800)],
      replayMs: rng.chance(0.5) ? 0 : rng.magnitude(1, 800),
      reloadMs: [2, rng.magnitude(5, 1500)],
      lateReloads: rng.pick([0.1, 0.1, 0.5]),
      keptBytes: rng.magnitude(1 << 16, 1 << 24),
      copyRate: rng.magnitude(2000, 40_000),
      checkpointEveryMs: rng.between(15_000, 60_000),
      busyReplayMs: later ? drawBusyReplay(seed) : 0,
    },
    clients: Array.from({ length: 1 + rng.below(4) }, (_, index) => drawClient(rng, index)),
  };
}

function drawHost(rng: Rng): HostTraits {
  return {
    clockRate: 1 + rng.between(-rateError, rateError),
    fsyncMs: rng.magnitude(0.3, 8),
    jitterMs: rng.magnitude(0.5, 15),
  };
}

/** A receiver is a reserve for standbys unless an order names it. */
function drawOrder(seed: number, nodes: number): Readonly<Record<string, unknown>> {
  const names = Array.from({ length: nodes }, (_, index) => `n${index + 1}`);
  return new Rng(seed, "order").chance(0.5) ? { sync_order: ["b1", ...names] } : {};
}

function drawBusyReplay(seed: number): number {
  const rng = new Rng(seed, "busy replay");
  return rng.chance(0.5) ? 0 : rng.magnitude(100, 5000);
}

/** How often there is a backup server, by scenario; "" = all faults. */
const archiveOdds: Readonly<Record<string, number>> = { archive: 1, "": 0.35, returns: 0.35, moments: 0.35 };

/** From numbers of its own, so that nothing else of a life is another one with it. */
function drawArchive(seed: number, scenario: string | null): HostTraits | null {
  const rng = new Rng(seed, "archive");
  return rng.chance(archiveOdds[scenario ?? ""] ?? 0) ? drawHost(rng) : null;
}

/** Now and then one node never counts, and copies are taken from another standby than the leader. */
function drawTags(rng: Rng, nodes: number): Partial<Tags>[] {
  const apart = nodes > 2 && rng.chance(0.2) ? rng.below(nodes) : -1;
  return Array.from({ length: nodes }, (_, index) => ({
    nosync: index === apart,
    clonefrom: rng.chance(0.1),
  }));
}

/** The stated tolerance holds for the default; who looks for bugs of early failover makes it early, and keeps protection. */
function drawSettings(
  rng: Rng,
  {
    ttlMs,
    counting,
    calm,
    promises,
  }: Record<"ttlMs" | "counting", number> & Record<"calm" | "promises", boolean>,
): Readonly<Record<string, unknown>> {
  const durability = rng.pick(
    promises ? ["degrade", "strict"] : ["degrade", "degrade", "degrade", "strict", "async"],
  );
  const suspectAfter = rng.pick(
    promises ? ["500ms", "500ms", "1500ms"] : ["0s", "500ms", "1500ms", "1500ms", "3s"],
  );
  return {
    ttl: `${ttlMs}ms`,
    durability,
    sync_standbys: counting > 2 && rng.chance(0.3) ? 2 : 1,
    suspect_after: calm ? "1500ms" : suspectAfter,
    max_lag_on_failover: rng.pick(["0B", "1MB", "1MB", "64kB"]),
    handover_wait: rng.pick(["0s", "150ms", "1s"]),
    primary_start_timeout: rng.pick(["0s", "5s", "30s"]),
    rewind: rng.chance(0.8),
    reclone: { wait: "1s", max_wait: "5s" },
  };
}

function drawChanges(nodes: number, counting: number, archive: boolean): Readonly<Record<string, unknown>>[] {
  return [
    { durability: "degrade" },
    { durability: "strict" },
    { durability: "async" },
    { sync_standbys: 1 },
    ...(counting > 2 ? [{ sync_standbys: 2 }] : []),
    ...(nodes > 2 && counting === nodes
      ? [{ sync_order: ["n2", "n1"] }, { sync_order: ["n3"] }, { sync_order: [] }]
      : []),
    { suspect_after: "0s" },
    { suspect_after: "1s" },
    ...(archive ? [{ sync_order: ["b1", "n2", "n1"] }, { sync_order: [] }, { sync_standbys: 1 }] : []),
  ];
}

function drawClient(rng: Rng, index: number): ClientTraits {
  const mode: SynchronousCommit = index === 0 ? "on" : rng.pick(["on", "on", "on", "local", "off"]);
  return {
    mode,
    thinkMs: rng.magnitude(60, 3000),
    bytes: [100, rng.magnitude(200, 60_000)],
    long: rng.chance(0.5) ? 0 : rng.magnitude(0.005, 0.1),
    longMs: rng.magnitude(200, 5000),
    patienceMs: rng.magnitude(500, 8000),
    cancels: rng.chance(0.6) ? 0 : 0.5,
  };
}
