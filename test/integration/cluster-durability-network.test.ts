import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { nodeOf } from "../../src/demo/demo-file.ts";
import {
  figure,
  giveTo,
  scenario,
  startCluster,
  type Settled,
  type TestCluster,
} from "../support/cluster.ts";
import {
  acknowledgedWithin,
  recorded,
  signalHost,
  storeReader,
  streamingNames,
  waitsForSomebody,
  type StoreReader,
} from "../support/durability.ts";
import { startLedger } from "../support/ledger.ts";
import { makeNetwork, type Network } from "../support/partition.ts";
import { pause, waitFor } from "../support/process.ts";

/** Long, so that whatever does not wait for it stands out. */
const ttlSeconds = 30;
/** After a change of holder this long passes before an early failover. */
const holdOffMs = 10_000;

describe("a cluster whose network is cut, with a long lease", () => {
  let cluster: TestCluster;
  let store: StoreReader;
  let network: Network;
  let tokenSeen = 0;
  beforeAll(async () => {
    cluster = await startCluster({ label: "network", ttlSeconds });
    store = await storeReader(cluster);
    network = await makeNetwork(cluster);
    tokenSeen = performance.now();
  });
  afterAll(async () => {
    await cluster.remove();
    await network.stop();
  });

  const two = (settled: Settled): readonly [string, string] => {
    const [one = "", another = ""] = settled.standbys;
    return [one, another];
  };

  /** Until an early failover is not held off any more because the leader is new. */
  const heldOff = (): Promise<void> => pause(Math.max(0, tokenSeen + holdOffMs + 500 - performance.now()));

  scenario(
    "degrade: while the loss of protection cannot be recorded, no commit goes on",
    () => cluster,
    async (_, before) => {
      await recorded(store, before.standbys, 1);
      const demo = await cluster.demo();
      const ledger = await startLedger(cluster, before.primary, { only: before.primary });
      await ledger.more(30);
      const thaw = async (): Promise<void> => {
        await network.heal();
        await Promise.all(before.standbys.map((name) => signalHost(demo, name, "SIGCONT")));
      };
      cluster.afterScenario.push(thaw);
      await network.cutStore(before.primary);
      await Promise.all(before.standbys.map((name) => signalHost(demo, name, "SIGSTOP")));
      const dead = performance.now();
      await pause(4000);
      expect(waitsForSomebody(await store.record())).toBe(true);
      expect(acknowledgedWithin(ledger, dead, Infinity)).toEqual([]);
      await network.heal();
      await recorded(store, [], 0);
      await ledger.more(20);
      await thaw();
      expect(await cluster.settled()).toEqual(before);
      await recorded(store, before.standbys, 1);
      expect(await ledger.check(before.primary)).toMatchObject({ missing: [], strange: [] });
    },
  );

  scenario(
    "a standby that promised a token streams from no holder of a lower one; the holder raises its own, and both go on",
    () => cluster,
    async (_, before) => {
      const [standby, companion] = two(before);
      const demo = await cluster.demo();
      const { token } = await cluster.lease();
      await recorded(store, before.standbys, 1);
      const ledger = await startLedger(cluster, before.primary, { only: before.primary });
      await ledger.more(20);
      cluster.afterScenario.push(() => network.heal());
      await cluster.kill(standby, "host");
      // As an agent leaves it that dies right after its promise.
      const file = join(nodeOf(demo, standby).state_dir, "promise");
      writeFileSync(file, String(token + 1), { mode: 0o600 });
      giveTo(demo, file);
      await network.cutStore(before.primary);
      await cluster.start(standby);
      await waitFor(async () => (await store.node(standby)).promised === token + 1, {
        timeoutMs: 15_000,
        what: "the promise is known",
      });
      const end = performance.now() + 3000;
      let looks = 0;
      while (performance.now() < end) {
        expect((await streamingNames(cluster, before.primary)).map((name) => name.split("/")[0])).toEqual([
          companion,
        ]);
        looks += 1;
        await pause(50);
      }
      expect(looks).toBeGreaterThan(5);
      expect(await cluster.lease()).toMatchObject({ holder: before.primary, token });
      await network.heal();
      expect(await cluster.settled()).toEqual(before);
      expect(await cluster.lease()).toMatchObject({ holder: before.primary, token: token + 1 });
      tokenSeen = performance.now();
      const entry = await recorded(store, before.standbys, 1);
      expect(entry.token).toBe(token + 1);
      await ledger.more(20);
      expect(ledger.failures).toEqual([]);
      expect(await ledger.check(before.primary)).toMatchObject({ missing: [], strange: [] });
    },
  );

  scenario(
    "one standby that still hears the leader is a veto: nobody takes over early",
    () => cluster,
    async (_, before) => {
      const [deaf, hears] = two(before);
      await recorded(store, before.standbys, 1);
      await heldOff();
      const held = await cluster.lease();
      const ledger = await startLedger(cluster, before.primary, { only: before.primary });
      await ledger.more(20);
      cluster.afterScenario.push(() => network.heal());
      await network.cutStore(before.primary);
      await network.cut(before.primary, [deaf]);
      await waitFor(async () => (await store.node(deaf)).suspects === held.token, {
        timeoutMs: 10_000,
        what: `${deaf} has lost the leader`,
      });
      const end = performance.now() + 4000;
      while (performance.now() < end) {
        expect(await cluster.lease()).toMatchObject({ holder: before.primary, token: held.token });
        expect((await store.node(hears)).suspects).toBeNull();
        expect((await store.node(deaf)).promised ?? 0).toBeLessThanOrEqual(held.token);
        await pause(100);
      }
      expect((await store.node(deaf)).suspects).toBe(held.token);
      await ledger.more(20);
      await network.heal();
      expect(await cluster.settled()).toEqual(before);
      expect((await cluster.lease()).token).toBe(held.token);
      expect(ledger.failures).toEqual([]);
      expect(await ledger.check(before.primary)).toMatchObject({ missing: [], strange: [] });
    },
  );

  scenario(
    "a leader that nobody hears any more is replaced long before its lease runs out, and what it acknowledged is there",
    () => cluster,
    async (_, before) => {
      await recorded(store, before.standbys, 1);
      await heldOff();
      const ledger = await startLedger(cluster, before.primary);
      await ledger.more(50);
      ledger.mark();
      const cut = performance.now();
      cluster.afterScenario.push(() => network.heal());
      await network.cutStore(before.primary);
      await network.cut(before.primary, before.standbys);
      const primary = await waitFor(
        async () => {
          const { leader } = await cluster.status(before.standbys[0]);
          const found = before.standbys.find((name) => name === leader);
          if (found !== undefined) return found;
          const nodes = await Promise.all(before.standbys.map((name) => store.node(name)));
          throw new Error(nodes.map(({ name, suspects }) => `${name} suspects ${suspects ?? "none"}`).join());
        },
        { timeoutMs: 20_000, what: "a standby leads", everyMs: 20 },
      );
      const took = performance.now() - cut;
      figure(`ttl ${ttlSeconds} s, leader cut off: a new one after ${Math.round(took)} ms`);
      expect(took).toBeLessThan(10_000);
      tokenSeen = performance.now();
      await network.heal();
      await waitFor(() => ledger.acknowledged.at(-1)?.node === primary, {
        timeoutMs: 20_000,
        what: "clients write to the new primary",
      });
      expect(await ledger.check(primary)).toMatchObject({ missing: [], strange: [] });
      expect(await cluster.settled()).toMatchObject({ primary, timeline: before.timeline + 1 });
    },
  );

  scenario(
    "the death of the leader's host costs a fraction of the lease",
    () => cluster,
    async (_, before) => {
      await recorded(store, before.standbys, 1);
      await heldOff();
      const ledger = await startLedger(cluster, before.primary);
      await ledger.more(50);
      ledger.mark();
      await cluster.kill(before.primary, "host");
      await ledger.more(20);
      const gap = ledger.longestGap();
      figure(`ttl ${ttlSeconds} s, dead host: ${Math.round(gap)} ms without an acknowledged write`);
      expect(gap).toBeLessThan(10_000);
      const during = await cluster.settled({ nodes: before.standbys });
      expect(await ledger.check(during.primary)).toMatchObject({ missing: [], strange: [] });
    },
  );
});
