import { afterAll, beforeAll, describe, expect } from "vitest";
import { figure, scenario, startCluster, type TestCluster } from "../support/cluster.ts";
import { startLedger } from "../support/ledger.ts";

describe("a cluster of two", () => {
  let cluster: TestCluster;
  beforeAll(async () => {
    cluster = await startCluster({ label: "two", nodes: 2, ttlSeconds: 2 });
  });
  afterAll(async () => {
    await cluster.remove();
  });

  scenario(
    "forms with one primary and a copy, and moves the primary there and back without losing a row",
    () => cluster,
    async (_, before) => {
      const [other = ""] = before.standbys;
      expect(before.standbys).toEqual([other]);
      const ledger = await startLedger(cluster, before.primary);
      for (const candidate of [other, before.primary]) {
        await ledger.more(20);
        await cluster.json("switchover", "--to", candidate, "--yes");
        expect((await cluster.settled()).primary).toBe(candidate);
      }
      expect(await ledger.check(before.primary)).toMatchObject({ missing: [], strange: [] });
    },
  );

  scenario(
    "loses no row to a killed postmaster",
    () => cluster,
    async (_, before) => {
      const ledger = await startLedger(cluster, before.primary);
      await ledger.more(50);
      ledger.mark();
      await cluster.kill(before.primary, "postgres");
      await ledger.more(50);
      const after = await cluster.settled();
      figure(
        `two nodes, killed postmaster: ${Math.round(ledger.longestGap())} ms without an acknowledged write`,
      );
      expect(await ledger.check(after.primary)).toMatchObject({ missing: [], strange: [] });
    },
  );

  scenario(
    "survives the death of each host in turn, which comes back as a standby",
    () => cluster,
    async (_, before) => {
      let current = before;
      for (let round = 0; round < 2; round += 1) {
        const [other = ""] = current.standbys;
        const ledger = await startLedger(cluster, current.primary);
        await ledger.more(20);
        ledger.mark();
        await cluster.kill(current.primary, "host");
        await ledger.more(20);
        figure(
          `two nodes, dead host, ttl 2 s: ${Math.round(ledger.longestGap())} ms without an acknowledged write`,
        );
        expect(await cluster.settled({ nodes: [other] })).toMatchObject({ primary: other });
        await cluster.start(current.primary);
        const after = await cluster.settled();
        expect(after).toMatchObject({ primary: other, standbys: [current.primary] });
        expect((await ledger.check(other)).strange).toEqual([]);
        current = after;
      }
    },
  );
});
