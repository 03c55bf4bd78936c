import { describe, expect, it } from "vitest";
import { bugsFound } from "./found.ts";
import { scenarioNames } from "./faults.ts";
import { parseSyncNames, priorityOf } from "./postgres/sync-names.ts";
import { runSeed, shrink } from "./run.ts";

/** Lives per scenario here; the search is the command. */
const lives = Number(process.env["PGHERD_SIMULATED_LIVES"] ?? 10);
/** Other lives each day would hide what failed yesterday: the seeds stay. */
const first = Number(process.env["PGHERD_SIMULATED_FROM"] ?? 1);

describe("simulated lives", () => {
  for (const scenario of [null, ...scenarioNames])
    it(`break no invariant: ${scenario ?? "all faults"}`, { timeout: 600_000 }, async () => {
      const count = scenario === null ? lives * 4 : lives;
      for (let seed = first; seed < first + count; seed += 1) {
        const { violations } = await runSeed(seed, { scenario });
        expect(violations, `npm run simulate -- --trace ${seed} --scenario ${scenario ?? "all"}`).toEqual([]);
      }
    });

  it("break none in which the program once failed", { timeout: 120_000 }, async () => {
    for (const { seed, scenario, earlier = true } of bugsFound)
      expect((await runSeed(seed, { scenario, earlier })).violations, `seed ${seed}`).toEqual([]);
  });

  it("are the same for the same seed, line by line", { timeout: 60_000 }, async () => {
    const read = async (): Promise<string[]> => {
      const lines: string[] = [];
      await runSeed(7, { trace: (line) => lines.push(line) });
      return lines;
    };
    const once = await read();
    expect(once.length).toBeGreaterThan(30);
    expect(await read()).toEqual(once);
  });

  it("have a backup server's receiver that counts, promises, and gives a candidate the WAL it lacks", async () => {
    const lines: string[] = [];
    await runSeed(1, { scenario: "archive", trace: (line) => lines.push(line) });
    const told = (text: RegExp): void =>
      expect(
        lines.some((line) => text.test(line)),
        String(text),
      ).toBe(true);
    told(/ durability\.record done=true .*keeping 1 of b1/);
    told(/ b1 +receiver\.promised /);
    told(/ event\.wal_taken .*over from b1 /);
  }, 60_000);

  it("write, lose their primaries and go on", { timeout: 60_000 }, async () => {
    const life = await runSeed(4, { scenario: "crashes" });
    expect(life.acknowledged).toBeGreaterThan(100);
    expect(life.promotions).toBeGreaterThan(0);
    expect(
      await shrink({ ...life, violations: [{ invariant: "I1", at: 0, text: "" }] }, "crashes"),
    ).toMatchObject({
      life: { violations: [{ invariant: "I1" }] },
    });
  });
});

describe("synchronous_standby_names in the model", () => {
  it("is read as PostgreSQL reads it", () => {
    expect(parseSyncNames("")).toBeNull();
    expect(parseSyncNames('ANY 2 ("a/1", "b""c", d)')).toEqual({
      method: "any",
      count: 2,
      names: ["a/1", 'b"c', "d"],
    });
    expect(parseSyncNames("FIRST 1 (x, y)")).toMatchObject({ method: "first", count: 1 });
    expect(parseSyncNames("x, y")).toEqual({ method: "first", count: 1, names: ["x", "y"] });
    expect(() => parseSyncNames("ANY 1 (")).toThrow();
  });

  it("gives places by order, and the same to all with ANY", () => {
    expect(priorityOf(parseSyncNames("FIRST 1 (x, Y)"), "y")).toBe(2);
    expect(priorityOf(parseSyncNames("ANY 1 (x, y)"), "y")).toBe(1);
    expect(priorityOf(parseSyncNames("ANY 1 (x)"), "y")).toBe(0);
    expect(priorityOf(null, "y")).toBe(0);
  });
});
