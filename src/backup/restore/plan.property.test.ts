import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Lsn } from "../../values/lsn.ts";
import type { Timeline } from "../../values/names.ts";
import type { WallTime } from "../../values/time.ts";
import {
  catalogueOf,
  found,
  lsn,
  readable,
  recordBytes,
  replay,
  timeOf,
  wayTo,
  worlds,
  type Block,
  type World,
} from "../../../test/support/restore-world.ts";
import { planRestore } from "./plan.ts";
import type { LocatedTarget, RestoreRequest } from "./target.ts";

/** A target drawn from a number, as far as it makes sense in a world. */
const targets = fc.record({
  kind: fc.constantFrom(
    "latest" as const,
    "immediate" as const,
    "time" as const,
    "lsn" as const,
    "xid" as const,
  ),
  at: fc.nat(),
  shift: fc.constantFrom(-500, 0, 500),
  inclusive: fc.boolean(),
  timeline: fc.option(fc.nat(), { nil: null }),
});

describe("plans over generated catalogues", () => {
  test("a plan replays exactly what was asked for, and what is refused cannot be had", () => {
    fc.assert(
      fc.property(worlds, targets, (world, drawn) => {
        const catalogue = catalogueOf(world);
        const leaf = drawn.timeline === null ? world.lines.length : (drawn.timeline % world.lines.length) + 1;
        const way = wayTo(world, leaf);
        const there = readable(world, way);
        const chosen = way[drawn.at % way.length];
        if (chosen === undefined) return;
        const request: RestoreRequest = {
          backup: null,
          inclusive: drawn.inclusive,
          timeline: drawn.timeline === null ? null : (leaf as Timeline),
          target: targetOf(world, drawn, chosen),
        };
        const known = way.filter((_, index) => there[index]);
        const located = locate(world, known, request);
        const result = planRestore(catalogue, request, located);
        const archived = there.lastIndexOf(true) + 1;
        // A position where the archive ends, as servers tell their current one: all there is, not the record to come.
        const atEnd = request.target.kind === "lsn" && Number(request.target.lsn) === archived * recordBytes;
        const wanted =
          request.target.kind === "latest" || atEnd ? archived : wantedCount(world, way, request);
        if (result.kind === "plan") {
          const state = replay(world, result.plan);
          const expected =
            request.target.kind === "immediate" ? Number(result.plan.backup.stopLsn) / recordBytes : wanted;
          expect(state.length).toBe(expected);
          return;
        }
        const possible = world.backups.some((backup) => {
          const onLine =
            way[backup.start]?.timeline === backup.timeline &&
            way[backup.stop - 1]?.timeline === backup.timeline;
          if (!onLine) return false;
          if (request.target.kind === "immediate")
            return there.slice(backup.start, backup.stop).every(Boolean);
          const end = wanted;
          // The history says that more was written before the line went on.
          if (request.target.kind === "latest" && end < (world.lines[leaf - 1]?.fork ?? 0)) return false;
          // A moment can only be told by the transaction after it.
          const needed =
            end +
            (request.target.kind === "time" || (!request.inclusive && request.target.kind !== "latest")
              ? 1
              : 0);
          const from =
            request.target.kind === "time" ? Math.min(backup.start, Math.max(0, end - 1)) : backup.start;
          return (
            backup.stop <= end && needed <= way.length && there.slice(from, needed).every(Boolean) && end > 0
          );
        });
        expect(possible).toBe(false);
      }),
      { numRuns: 1000 },
    );
  });

  test("the nearest points of a refusal can be reached", () => {
    fc.assert(
      fc.property(worlds, targets, (world, drawn) => {
        const catalogue = catalogueOf(world);
        const leaf = world.lines.length;
        const way = wayTo(world, leaf);
        const there = readable(world, way);
        const chosen = way[drawn.at % way.length];
        if (chosen === undefined) return;
        const target = targetOf(world, drawn, chosen);
        const request: RestoreRequest = { backup: null, inclusive: drawn.inclusive, timeline: null, target };
        const known = way.filter((_, index) => there[index]);
        const result = planRestore(catalogue, request, locate(world, known, request));
        if (result.kind === "plan") return;
        const { before, after } = result.refusal.nearest;
        for (const point of [before, after]) {
          if (point === null) continue;
          // The last record before the point: all of it and nothing more.
          const instead: RestoreRequest = {
            backup: null,
            inclusive: true,
            timeline: null,
            target: { kind: "lsn", lsn: (point.lsn - BigInt(recordBytes)) as Lsn },
          };
          expect(planRestore(catalogue, instead, locate(world, known, instead)).kind).toBe("plan");
        }
      }),
      { numRuns: 500 },
    );
  });
});

function targetOf(
  world: World,
  drawn: { readonly kind: "latest" | "immediate" | "time" | "lsn" | "xid"; readonly shift: number },
  chosen: Block,
): RestoreRequest["target"] {
  switch (drawn.kind) {
    case "time":
      return {
        kind: "time",
        time: new Date(Date.parse(timeOf(world, chosen)) + drawn.shift).toISOString() as WallTime,
      };
    case "lsn":
      return { kind: "lsn", lsn: lsn(chosen.index) };
    case "xid":
      return { kind: "xid", xid: chosen.timeline * 1000 + chosen.index };
    case "latest":
    case "immediate":
      return { kind: drawn.kind };
  }
}

function locate(world: World, known: readonly Block[], request: RestoreRequest): LocatedTarget {
  const { target, inclusive } = request;
  switch (target.kind) {
    case "latest":
      return { kind: "latest", last: null };
    case "immediate":
      return { kind: "immediate" };
    case "time": {
      const wanted = Date.parse(target.time);
      const isAfter = (block: Block): boolean => {
        const time = Date.parse(timeOf(world, block));
        return inclusive ? time > wanted : time >= wanted;
      };
      const next = known.find(isAfter);
      const last = known.findLast((block) => !isAfter(block));
      return {
        kind: "time",
        next: next === undefined ? null : found(world, next),
        last: last === undefined ? null : found(world, last),
      };
    }
    case "lsn": {
      const record = known.find((block) => lsn(block.index) >= target.lsn);
      return { kind: "lsn", record: record === undefined ? null : found(world, record), last: null };
    }
    case "xid": {
      const record = known.find((block) => block.timeline * 1000 + block.index === target.xid);
      return { kind: "xid", found: record === undefined ? [] : [found(world, record)] };
    }
    case "name":
      return { kind: "name", found: [] };
  }
}

/** How many records of the line belong to the state that is asked for. */
function wantedCount(world: World, way: readonly Block[], request: RestoreRequest): number {
  const { target, inclusive } = request;
  switch (target.kind) {
    case "time": {
      const wanted = Date.parse(target.time);
      const index = way.findIndex((block) => {
        const time = Date.parse(timeOf(world, block));
        return inclusive ? time > wanted : time >= wanted;
      });
      return index < 0 ? way.length : index;
    }
    case "lsn":
      return Number(target.lsn) / recordBytes + (inclusive ? 1 : 0);
    case "xid":
      return (target.xid % 1000) + (inclusive ? 1 : 0);
    case "latest":
    case "immediate":
    case "name":
      return way.length;
  }
}
