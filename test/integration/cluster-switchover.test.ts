import { afterAll, beforeAll, describe, expect } from "vitest";
import { figure, scenario, startCluster, type TestCluster } from "../support/cluster.ts";
import { startLedger } from "../support/ledger.ts";

describe("switchover under load", () => {
  let cluster: TestCluster;
  beforeAll(async () => {
    cluster = await startCluster({ label: "switchover", ttlSeconds: 5 });
  });
  afterAll(async () => {
    await cluster.remove();
  });

  scenario(
    "to each node in turn loses no row, and what led before streams from what leads now",
    () => cluster,
    async (_, before) => {
      const ledger = await startLedger(cluster, before.primary);
      let { timeline } = before;
      for (const candidate of [...before.standbys, before.primary]) {
        await ledger.more(50);
        ledger.mark();
        await cluster.json("switchover", "--to", candidate, "--yes");
        await ledger.more(20);
        figure(
          `switchover to ${candidate}: ${Math.round(ledger.longestGap())} ms without an acknowledged write`,
        );
        const now = await cluster.settled();
        timeline += 1;
        expect(now).toMatchObject({ primary: candidate, timeline });
      }
      expect(await ledger.check(before.primary)).toMatchObject({ missing: [], strange: [] });
    },
  );

  scenario(
    "asked for in pause is brought to its end",
    () => cluster,
    async (_, before) => {
      const [candidate = ""] = before.standbys;
      await cluster.json("pause", "--yes");
      await cluster.json("switchover", "--to", candidate, "--yes");
      await cluster.json("resume", "--yes");
      expect(await cluster.settled()).toMatchObject({ primary: candidate, timeline: before.timeline + 1 });
    },
  );

  scenario(
    "is refused with the reason when it makes no sense, and nothing changes",
    () => cluster,
    async (_, before) => {
      const refused = async (...args: string[]): Promise<unknown> => {
        const done = await cluster.cli("switchover", ...args, "--yes", "--json");
        expect(done.code).not.toBe(0);
        return (JSON.parse(done.stdout || done.stderr) as { code: unknown }).code;
      };
      expect(await refused("--to", before.primary)).toBe("SWITCHOVER_CANDIDATE_IS_LEADER");
      expect(await refused("--to", "db9")).toBe("SWITCHOVER_CANDIDATE_UNKNOWN");
      expect(await refused("--from", before.standbys[0] ?? "", "--to", before.standbys[1] ?? "")).toBe(
        "SWITCHOVER_LEADER_MISMATCH",
      );
      expect(await cluster.settled()).toEqual(before);
    },
  );
});
