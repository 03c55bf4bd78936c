import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { nodeStates } from "../../cluster/records.ts";
import { clusterStatus, leaderStatus, nodeStatus, plainLook, secondsAgo } from "../../../test/support/cli.ts";
import { createPaint } from "./look.ts";
import { statusLines } from "./status.ts";
import { displayWidth, withoutColour } from "./width.ts";

const look = plainLook();

describe("status", () => {
  it("shows a healthy cluster as one sentence and a table", () => {
    expect(statusLines(clusterStatus(), look).join("\n")).toBe(
      [
        "shop · healthy · not protected (0 B at risk) · timeline 7 · leader db1 since 3 d 4 h",
        "",
        "  node  host       role     state      timeline  lag  replay  upstream  since",
        "* db1   10.0.0.11  primary  running           7    -       -  -         3 d 4 h",
        "  db2   10.0.0.12  standby  streaming         7  0 B     0 B  db1       3 d 4 h",
        "  db3   10.0.0.13  standby  streaming         7  0 B     0 B  db1       3 d 4 h",
      ].join("\n"),
    );
  });

  it("shows the progress of a copy in the state and counts only what needs a person", () => {
    const status = clusterStatus({
      health: "degraded",
      attention: ["db3 is cloning", "db2: the archive is behind"],
      nodes: [
        leaderStatus("db1"),
        nodeStatus("db2", {
          problem: { code: "INTERNAL", message: "the archive is behind", detail: null, hint: "wait for it" },
        }),
        nodeStatus("db3", {
          state: "cloning",
          lag_bytes: null,
          replay_lag_bytes: null,
          operation: {
            kind: "clone",
            step: "copying",
            doneBytes: 410 * 1024 ** 2,
            totalBytes: 1000 * 1024 ** 2,
            startedAt: secondsAgo(10),
          },
        }),
      ],
    });
    const text = statusLines(status, look).join("\n");
    expect(text).toContain("needs attention: 1");
    expect(text).toContain("~ cloning 41 %, 41 MB/s, 14 s");
    expect(text).toContain("! db2: the archive is behind\n  next: wait for it");
    expect(text).not.toContain("! db3 is cloning");
  });

  it("calls a cluster healing when all that is left passes by itself", () => {
    const status = clusterStatus({
      health: "degraded",
      attention: ["db3 is rewinding"],
      nodes: [leaderStatus("db1"), nodeStatus("db2"), nodeStatus("db3", { state: "rewinding" })],
    });
    const lines = statusLines(status, look);
    expect(lines[0]).toContain("healing");
    expect(lines.join("\n")).toContain("~ rewinding");
  });

  it("says that nobody leads", () => {
    const status = clusterStatus({
      health: "down",
      leader: null,
      leader_since: null,
      attention: ["no node leads"],
    });
    const lines = statusLines(status, look);
    expect(lines[0]).toBe("shop · down · not protected (0 B at risk) · timeline 7 · no leader");
    expect(lines.at(-1)).toBe("! no node leads");
  });

  it("marks a node that runs as primary without the lease, also beside a leader", () => {
    const status = clusterStatus({
      nodes: [
        leaderStatus("db1"),
        nodeStatus("db2", { role: "primary", state: "running", unexpected_primary: true }),
      ],
    });
    const line = statusLines(status, look).find((candidate) => candidate.includes("db2"));
    expect(line).toMatch(/^! db2 .*primary +running, no lease/);
  });

  it("marks a node that was not heard and does not guess its lag", () => {
    const status = clusterStatus({
      nodes: [
        leaderStatus("db1"),
        nodeStatus("db2", { state: "unknown", lag_bytes: null, replay_lag_bytes: null }),
      ],
    });
    const line = statusLines(status, look).find((candidate) => candidate.includes("db2"));
    expect(line).toMatch(/^\? db2 .*unknown +7 +\? +\?/);
  });

  it("shows location, priority, pending restart, sync and tags where there are any", () => {
    const status = clusterStatus({
      nodes: [
        leaderStatus("db1", { location: "berlin" }),
        nodeStatus("db2", {
          location: "paris",
          sync: true,
          tags: { nofailover: true, failover_priority: 3, rack: "b7" },
          pending_restart: true,
          pending_restart_parameters: ["max_connections"],
        }),
      ],
    });
    const text = statusLines(status, plainLook({ width: 140 })).join("\n");
    expect(text).toMatch(/location +priority +restart +tags/);
    expect(text).toMatch(/paris +3 +pending +sync nofailover rack=b7/);
    expect(text).toContain("! db2: max_connections waits for a restart (pgherd restart db2)");
  });

  it("tells nodes on one host apart by their ports", () => {
    const status = clusterStatus({
      nodes: [leaderStatus("db1", { host: "h", port: 5432 }), nodeStatus("db2", { host: "h", port: 5433 })],
    });
    const text = statusLines(status, look).join("\n");
    expect(text).toContain("h:5432");
    expect(text).toContain("h:5433");
  });

  it("says when a switchover is scheduled and that the cluster is paused", () => {
    const text = statusLines(
      clusterStatus({
        paused: true,
        failover: "manual",
        scheduled_switchover: { at: "2026-11-22T01:00:00Z", from: "db1", to: null },
      }),
      look,
    ).join("\n");
    expect(text).toMatch(/ · paused\n {2}failover manual/);
    expect(text).toContain("switchover db1 -> the best candidate at 2026-11-22 01:00:00");
  });

  it("shows an empty cluster without a table", () => {
    const lines = statusLines(clusterStatus({ nodes: [], leader: null, health: "down" }), look);
    expect(lines.at(-1)).toBe("  No node has registered yet.");
  });

  it("counts wide characters by their columns", () => {
    const status = clusterStatus({
      nodes: [leaderStatus("db1", { location: "東京" }), nodeStatus("db2", { location: "Köln 🐘" })],
    });
    const [, , title, first, second] = statusLines(status, look);
    const sinceColumn = displayWidth((title ?? "").slice(0, (title ?? "").indexOf("since")));
    for (const line of [first ?? "", second ?? ""])
      expect(displayWidth(line.slice(0, line.indexOf("3 d 4 h")))).toBe(sinceColumn);
  });

  it("lets no control character of a tag reach the terminal", () => {
    const status = clusterStatus({ nodes: [leaderStatus("db1", { tags: { note: "\u001b[2Jgone" } })] });
    expect(statusLines(status, look).join("\n")).not.toContain("\u001b");
  });

  it("carries no meaning by colour alone", () => {
    const status = clusterStatus({ health: "degraded", attention: ["db2 is stopped"] });
    const coloured = statusLines(status, plainLook({ paint: createPaint(true) }));
    expect(coloured.join("\n")).toContain("\u001b[");
    expect(coloured.map(withoutColour)).toEqual(statusLines(status, look));
  });

  it("never takes more columns than there are", () => {
    const name = fc.stringMatching(/^[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?$/);
    const node = fc.record({
      name,
      host: fc.domain(),
      state: fc.constantFrom(...nodeStates),
      lag: fc.option(fc.nat(), { nil: null }),
      location: fc.option(fc.string({ unit: "grapheme", maxLength: 40 }), { nil: null }),
      tag: fc.string({ unit: "grapheme", maxLength: 40 }),
      pending: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(node, { maxLength: 5 }), fc.integer({ min: 100, max: 200 }), (nodes, width) => {
        const status = clusterStatus({
          nodes: nodes.map((item) =>
            nodeStatus(item.name, {
              host: item.host,
              state: item.state,
              lag_bytes: item.lag,
              location: item.location,
              tags: { free: item.tag, failover_priority: 5 },
              pending_restart: item.pending,
            }),
          ),
        });
        for (const line of statusLines(status, plainLook({ width })).slice(2))
          expect(displayWidth(line)).toBeLessThanOrEqual(width);
      }),
      { numRuns: 200 },
    );
  });
});
