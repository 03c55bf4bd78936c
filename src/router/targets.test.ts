import { describe, expect, test } from "vitest";
import { routerPicture } from "../../test/support/router-source.ts";
import type { NodeName } from "../values/names.ts";
import { chooseTarget, laggingStandbys, type TargetSettings, type TargetView } from "./targets.ts";
import type { StandbyRoute, Topology } from "./topology.ts";

const name = (text: string): NodeName => text as NodeName;

function standby(node: string, over: Partial<StandbyRoute> = {}): StandbyRoute {
  return {
    node: name(node),
    host: `${node}.example`,
    port: 5432,
    location: null,
    weight: 100,
    lagBytes: 0,
    streaming: true,
    noloadbalance: false,
    ...over,
  };
}

interface Case {
  readonly settings?: Partial<TargetSettings>;
  readonly standbys?: readonly StandbyRoute[];
  readonly primary?: null;
  readonly detached?: readonly string[];
  readonly lagging?: readonly string[];
  readonly sessions?: Readonly<Record<string, number>>;
  readonly location?: string;
}

/** db1 leads. @returns the name of the chosen node */
function chosen(of: Case): string | null {
  const base = routerPicture().topology;
  const topology: Topology = {
    ...base,
    primary: of.primary === null ? null : base.primary,
    standbys: of.standbys ?? [standby("db2"), standby("db3")],
    detached: new Set((of.detached ?? []).map(name)),
  };
  const view: TargetView = {
    topology,
    location: of.location ?? null,
    sessions: (node) => of.sessions?.[node] ?? 0,
    lagging: new Set((of.lagging ?? []).map(name)),
  };
  const settings: TargetSettings = {
    target: "standby",
    lagLimitBytes: null,
    fallback: "primary",
    sameLocationFirst: true,
    ...of.settings,
  };
  return chooseTarget(settings, view)?.node ?? null;
}

const primary = { target: "primary" } as const;
const any = { target: "any" } as const;
const noFallback = { fallback: "none" } as const;

describe("target primary", () => {
  test.each<[string, Case, string | null]>([
    ["the primary", { settings: primary }, "db1"],
    ["nobody while nobody serves", { settings: primary, primary: null }, null],
    ["nobody while it is detached", { settings: primary, detached: ["db1"] }, null],
  ])("%s", (_, of, node) => expect(chosen(of)).toBe(node));

  test("with the token by which it may be written to, a standby without", () => {
    const { topology } = routerPicture();
    const view = { topology, location: null, sessions: () => 0, lagging: new Set<NodeName>() };
    const settings = { lagLimitBytes: null, fallback: "none", sameLocationFirst: false } as const;
    expect(chooseTarget({ target: "primary", ...settings }, view)).toMatchObject({ node: "db1", token: 12 });
    expect(chooseTarget({ target: "standby", ...settings }, view)).toMatchObject({
      node: "db2",
      token: null,
    });
  });
});

describe("target standby", () => {
  const far = { location: "far" };
  const near = { location: "near" };
  test.each<[string, Case, string | null]>([
    ["the first of equals", {}, "db2"],
    ["the one with fewer sessions", { sessions: { db2: 2, db3: 1 } }, "db3"],
    [
      "by weight: half the weight, half the sessions",
      { standbys: [standby("db2", { weight: 50 }), standby("db3")], sessions: { db2: 4, db3: 8 } },
      "db3",
    ],
    [
      "by weight, the other way round",
      { standbys: [standby("db2", { weight: 50 }), standby("db3")], sessions: { db2: 3, db3: 9 } },
      "db2",
    ],
    [
      "none of weight 0",
      { standbys: [standby("db2", { weight: 0 }), standby("db3")], sessions: { db3: 9 } },
      "db3",
    ],
    [
      "none with noloadbalance",
      { standbys: [standby("db2", { noloadbalance: true }), standby("db3")] },
      "db3",
    ],
    ["none that is detached", { detached: ["db2"] }, "db3"],
    ["none that lags", { lagging: ["db2"] }, "db3"],
    [
      "the near one, even with more sessions",
      {
        location: "near",
        standbys: [standby("db2", far), standby("db3", near)],
        sessions: { db3: 50 },
      },
      "db3",
    ],
    [
      "a far one when the near one is not fit",
      { location: "near", standbys: [standby("db2", far), standby("db3", near)], lagging: ["db3"] },
      "db2",
    ],
    [
      "by sessions alone when location does not count",
      {
        settings: { sameLocationFirst: false },
        location: "near",
        standbys: [standby("db2", far), standby("db3", near)],
        sessions: { db3: 1 },
      },
      "db2",
    ],
    ["the primary when none is fit", { detached: ["db2", "db3"] }, "db1"],
    ["nobody when none is fit and the primary is not wanted", { settings: noFallback, standbys: [] }, null],
    ["nobody when none is fit and nobody serves", { standbys: [], primary: null }, null],
    ["a standby while nobody serves", { primary: null }, "db2"],
    [
      "not the primary that is still listed as a standby",
      { settings: noFallback, standbys: [standby("db1")] },
      null,
    ],
  ])("%s", (_, of, node) => expect(chosen(of)).toBe(node));
});

describe("target any", () => {
  test.each<[string, Case, string | null]>([
    ["the one with the fewest sessions", { settings: any, sessions: { db1: 1, db2: 1 } }, "db3"],
    ["the primary too", { settings: any, sessions: { db2: 1, db3: 1 } }, "db1"],
    ["a standby while nobody serves", { settings: any, primary: null }, "db2"],
    ["nobody when there is nobody", { settings: any, primary: null, standbys: [] }, null],
  ])("%s", (_, of, node) => expect(chosen(of)).toBe(node));
});

describe("lag", () => {
  const out = (lagBytes: number | null, before: readonly string[] = [], streaming = true): boolean =>
    laggingStandbys([standby("db2", { lagBytes, streaming })], 100, new Set(before.map(name))).has(
      name("db2"),
    );

  test("takes a standby out above the limit, and lets it in again below half of it", () => {
    expect([100, 101].map((lag) => out(lag))).toEqual([false, true]);
    expect([101, 51, 50].map((lag) => out(lag, ["db2"]))).toEqual([true, true, false]);
  });

  test("that nobody knows, and a stream that stands still, count as behind", () => {
    expect([out(null), out(0, [], false)]).toEqual([true, true]);
  });

  test("without a limit does not count", () => {
    expect(
      laggingStandbys([standby("db2", { lagBytes: null, streaming: false })], null, new Set()).size,
    ).toBe(0);
  });
});
