import { describe, expect, it } from "vitest";
import { clusterStatus, plainLook, routerLine } from "../../../test/support/cli.ts";
import type { MovePlan } from "../../agent/service.ts";
import type { RoutersReport } from "../../api/client.ts";
import type { NodeName } from "../../values/names.ts";
import { movePlanLines } from "./move.ts";
import { cutWarning, movedText, routerLines } from "./routers.ts";
import { statusLines } from "./status.ts";

const look = plainLook();
const pinned = [
  {
    reason: "temporary table",
    count: 2,
    examples: [{ user: "app", database: "shop", application: "reports", address: "10.0.0.40" }],
  },
  {
    reason: "cursor WITH HOLD",
    count: 1,
    examples: [{ user: "app", database: "shop", application: "", address: "10.0.0.41" }],
  },
];
const plan: MovePlan = {
  from: "db1" as NodeName,
  to: "db2" as NodeName,
  checks: [],
  steps: ["stop db1"],
  sessions: { routers: ["r1", "r2"], carried: 214, pinned },
};

describe("routers", () => {
  it("are a table of their own in the status, and nothing where there is none", () => {
    const lines = statusLines(
      clusterStatus({
        routers: [routerLine("r1"), routerLine("r2", { state: "unknown", detached: ["db3"] })],
      }),
      look,
    );
    expect(lines.slice(lines.indexOf("", 3) + 1)).toEqual([
      "  router  host       state    listens                       sessions  detached",
      "  r1      10.0.0.20  serving  primary :5000, standby :5001       214",
      "? r2      10.0.0.20  unknown  primary :5000, standby :5001         ?  db3",
    ]);
    expect(statusLines(clusterStatus(), look).join("\n")).not.toContain("router");
  });

  it("tell in a plan what is carried and what is cut, by reason, with an example", () => {
    expect(movePlanLines(plan, look)).toEqual([
      "db1 -> db2: every check passed.",
      "214 sessions are carried (r1, r2), 3 would be cut:",
      '  2 with temporary table (app "reports", 10.0.0.40, ...), 1 with cursor WITH HOLD (app, 10.0.0.41)',
      "Would run: stop db1",
    ]);
    expect(cutWarning(plan)).toBe(" 3 sessions will be cut (see --dry-run).");
    const nothing = { ...plan, sessions: { routers: ["r1"], carried: 1, pinned: [] } };
    expect(movePlanLines(nothing, look)[1]).toBe("1 session is carried (r1), none is cut.");
    expect([cutWarning(nothing), cutWarning({ ...plan, sessions: null })]).toEqual(["", ""]);
  });

  it.each([
    [
      { carried: 214, cut: 0, announced: 0, silent: 0 },
      "Writes waited 0.57 s. No client saw an error: 214 sessions went on.",
    ],
    [
      { carried: 211, cut: 3, announced: 3, silent: 0 },
      "Writes waited 0.57 s. No client saw an error, 3 were cut as announced.",
    ],
    [
      { carried: 209, cut: 5, announced: 3, silent: 1 },
      "Writes waited 0.57 s. 5 sessions were cut, 3 of them announced; 209 went on. 1 router told nothing.",
    ],
  ])("tell how a move went: %o", (moved, text) => {
    expect(movedText({ waited_ms: 570, ...moved })).toBe(text);
  });

  it("are listed with what all of them are ordered", () => {
    const report: RoutersReport = {
      routers: [
        {
          name: "r1",
          router_id: "f2b1",
          sequence: 5,
          version: "0.1.0",
          host: "10.0.0.20",
          listeners: [
            { name: "primary", target: "primary", address: "10.0.0.20", port: 5000, path: "session" },
          ],
          admin: { address: "10.0.0.20", port: 6432 },
          sessions: 40,
          on_primary: 30,
          pinned,
          detached: [],
          gate: null,
          moved: null,
          written_at: "2026-11-21T14:00:00.000Z",
          heard_s: 0.7,
        },
      ],
      orders: { detached: ["db3"], draining: ["db3"], paused_until: "2026-11-21T14:00:30.000Z" },
    };
    expect(routerLines(report, look)).toEqual([
      "  router  host       version  listens        sessions  writers  pinned  console         heard",
      "  r1      10.0.0.20  0.1.0    primary :5000        40       30       3  10.0.0.20:6432  0 s ago",
      '  r1 would cut in a switchover: 2 with temporary table (app "reports", 10.0.0.40, ...), 1 with',
      "  cursor WITH HOLD (app, 10.0.0.41)",
      "! db3 gets no new clients, and its sessions leave (pgherd router attach db3)",
      "! paused until 2026-11-21 14:00:30 (pgherd router resume)",
    ]);
    expect(routerLines({ ...report, routers: [] }, look)).toEqual([
      "The cluster has no router. Start one: pgherd router --config FILE",
    ]);
  });
});
