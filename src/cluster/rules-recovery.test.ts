import { describe, expect, it } from "vitest";
import type { NodeName, Timeline } from "../values/names.ts";
import type { RecoveryRecord } from "./records.ts";
import { isLeftBehind } from "./recovery.ts";
import { recoveryRules } from "./rules-recovery.ts";
import type { View } from "./view.ts";

const timeline = (number: number): Timeline => number as Timeline;

function recovery(over: Partial<RecoveryRecord> = {}): RecoveryRecord {
  return {
    id: "r1",
    node: "db1" as NodeName,
    phase: "prepared",
    target: "time 2026-11-20T14:01:00Z",
    timeline: timeline(9),
    ...over,
  } as RecoveryRecord;
}

/** What the rules of a recovery look at: db1 serves on timeline 7, and the state restored for r1 lies beside its data. */
function view(record: RecoveryRecord | null, over: Readonly<Record<string, unknown>> = {}): View {
  return {
    self: "db1",
    prepared: "r1",
    dcs: { reachable: true, silentMs: 0 },
    cluster: { recovery: { value: record, version: 3 } },
    standing: { kind: "mine", lease: { state: "serving", timeline: 7, token: 4 }, remainingMs: 4000 },
    postgres: { kind: "running", role: "primary", timeline: timeline(7) },
    ...over,
  } as unknown as View;
}

function decided(of: View): string | null {
  for (const rule of recoveryRules) {
    const verdict = rule.answer(of);
    if (verdict !== null) return `${rule.id} ${verdict.action.kind}`;
  }
  return null;
}

const stopped = { postgres: { kind: "stopped", timeline: timeline(7), wasPrimary: true } };
const elected = { standing: { kind: "mine", lease: { state: "elected", timeline: 9, token: 5 } } };

describe("a recovery of the whole cluster", () => {
  it.each([
    ["there is none", view(null), null],
    ["it is still being restored", view(recovery({ phase: "preparing" })), null],
    ["the state is there, and this node serves", view(recovery()), "R-02 restore-cluster"],
    ["it is another's", view(recovery({ node: "db2" as NodeName })), null],
    ["what lies there is of another recovery", view(recovery(), { prepared: "r0" }), null],
    ["the store is away", view(recovery(), { dcs: { reachable: false, silentMs: 9000 } }), null],
    ["PostgreSQL died before", view(recovery(), stopped), null],
    ["it failed", view(recovery({ phase: "failed" }), stopped), null],
    [
      "it is decided: the data comes first",
      view(recovery({ phase: "switching" }), { ...stopped, ...elected }),
      "R-01 swap-restored",
    ],
    [
      "also where the lease was lost since",
      view(recovery({ phase: "switching" }), { ...stopped, standing: { kind: "expired" } }),
      "R-01 swap-restored",
    ],
    ["nothing is swapped under a running server", view(recovery({ phase: "done" })), null],
    [
      "the restored data is lost: the old does not lead",
      view(recovery({ phase: "switching" }), { ...stopped, ...elected, prepared: null }),
      "R-03 handover",
    ],
    [
      "it was swapped in",
      view(recovery({ phase: "switching" }), {
        ...elected,
        prepared: null,
        postgres: { kind: "stopped", timeline: timeline(9), wasPrimary: true },
      }),
      null,
    ],
  ])("%s", (_, of, expected) => {
    expect(decided(of)).toBe(expected);
  });

  it("leaves behind what is on an older timeline, from the decision on", () => {
    const of = (phase: RecoveryRecord["phase"], number: number): boolean =>
      isLeftBehind({ recovery: { value: recovery({ phase }), version: 1 } }, timeline(number));
    expect(of("prepared", 7)).toBe(false);
    expect(of("switching", 7)).toBe(true);
    expect(of("done", 8)).toBe(true);
    expect(of("done", 9)).toBe(false);
    expect(of("failed", 7)).toBe(false);
  });
});
