import fc from "fast-check";
import { expect, test } from "vitest";
import { applyPatch, diffSettings, patchFromAssignments, replaceSettings } from "./settings-change.ts";

test("a patch sets, merges and deletes, and says what changed", () => {
  const current = { ttl: "5s", pause: true, postgresql: { parameters: { jit: "off", work_mem: "4MB" } } };
  const patch = { ttl: "10s", pause: null, postgresql: { parameters: { jit: null } } };
  expect(applyPatch(current, patch)).toEqual({
    outcome: "changed",
    stored: { ttl: "10s", postgresql: { parameters: { work_mem: "4MB" } } },
    diff: ["- pause: true", "- postgresql.parameters.jit: off", "- ttl: 5s", "+ ttl: 10s"],
  });
});

test("a patch that changes nothing says so", () => {
  expect(applyPatch({ ttl: 5 }, { ttl: 5, pause: null })).toMatchObject({ outcome: "unchanged", diff: [] });
});

test("a patch that would make the settings invalid is refused with every problem", () => {
  const outcome = applyPatch({ ttl: 5 }, { ttl: 1, fialover: "manual" });
  expect(outcome).toMatchObject({ outcome: "refused", problems: [{ path: "ttl" }, { path: "fialover" }] });
});

test.each([null, 3, "ttl", [], [{}]])("a patch that is no object (%j) is refused", (patch) => {
  expect(applyPatch({}, patch).outcome).toBe("refused");
  expect(replaceSettings({}, patch).outcome).toBe("refused");
});

test("a document that nests without end is refused", () => {
  const deep = JSON.parse(`${'{"a":'.repeat(5_000)}1${"}".repeat(5_000)}`) as unknown;
  expect(applyPatch({}, deep).outcome).toBe("refused");
  expect(replaceSettings({}, deep).outcome).toBe("refused");
});

test("a key named __proto__ is an unknown key like any other", () => {
  const outcome = applyPatch({}, JSON.parse('{"__proto__": {"ttl": 3}}'));
  expect(outcome).toMatchObject({ outcome: "refused", problems: [{ message: "unknown key" }] });
});

test("the other name of a setting replaces it and is not stored", () => {
  expect(applyPatch({ max_lag_on_failover: 1 }, { maximum_lag_on_failover: 2 })).toMatchObject({
    stored: { max_lag_on_failover: 2 },
    diff: ["- max_lag_on_failover: 1", "+ max_lag_on_failover: 2"],
  });
  expect(applyPatch({ max_lag_on_failover: 1 }, { maximum_lag_on_failover: null })).toMatchObject({
    stored: {},
  });
  expect(applyPatch({}, { max_lag_on_failover: 1, maximum_lag_on_failover: 2 }).outcome).toBe("refused");
});

test("a replacement keeps nothing of what was", () => {
  expect(replaceSettings({ ttl: 5, pause: true }, { ttl: 6 })).toMatchObject({
    outcome: "changed",
    stored: { ttl: 6 },
  });
});

const settings = fc.record(
  {
    ttl: fc.integer({ min: 2, max: 300 }),
    pause: fc.boolean(),
    failover: fc.constantFrom("automatic", "manual"),
    reclone: fc.record({ attempts: fc.integer({ min: 1, max: 9 }) }),
    postgresql: fc.record({
      parameters: fc.dictionary(
        fc.constantFrom("jit", "work_mem", "a.b"),
        fc.constantFrom("on", "8MB", 5, true),
      ),
    }),
  },
  { requiredKeys: [] },
);

test("a replacement is stored as given, and the way back has the opposite lines", () => {
  const turned = (line: string): string => (line.startsWith("-") ? `+${line.slice(1)}` : `-${line.slice(1)}`);
  fc.assert(
    fc.property(settings, settings, (before, after) => {
      const outcome = replaceSettings(before, after);
      expect(outcome).toMatchObject({ stored: after });
      expect(diffSettings(after, before).map(turned).sort()).toEqual(diffSettings(before, after).sort());
    }),
  );
});

test("a patch applied twice changes nothing the second time", () => {
  fc.assert(
    fc.property(settings, settings, (current, patch) => {
      const first = applyPatch(current, patch);
      if (first.outcome === "refused") throw new Error("valid settings were refused");
      expect(applyPatch(first.stored, patch).outcome).toBe("unchanged");
    }),
  );
});

test("assignments become a patch; the values are YAML", () => {
  expect(
    patchFromAssignments([
      "ttl=10s",
      "pause=null",
      "postgresql.parameters.auto_explain.log_analyze=on",
      "reclone.attempts=5",
    ]),
  ).toEqual({
    ttl: "10s",
    pause: null,
    postgresql: { parameters: { "auto_explain.log_analyze": "on" } },
    reclone: { attempts: 5 },
  });
});

test.each(["ttl", "=5", "a..b=1", "ttl=[1"])("%j is no assignment", (text) => {
  expect(() => patchFromAssignments([text])).toThrow(expect.objectContaining({ code: "USAGE" }));
});
