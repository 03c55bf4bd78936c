import { beforeEach, describe, expect, it } from "vitest";
import type { Grant } from "../cluster/failsafe.ts";
import type { Clock } from "../system/clock.ts";
import { systemRandom } from "../system/random.ts";
import type { FencingToken, NodeName } from "../values/names.ts";
import type { Instant, WallTime } from "../values/time.ts";
import { loadMembership, type Membership } from "./membership.ts";
import type { StateFiles } from "./state-files.ts";

let ms: number;
let texts: Map<string, string>;
beforeEach(() => {
  ms = 1000;
  texts = new Map();
});

const clock: Clock = {
  now: () => ms as Instant,
  bootMs: () => ms,
  wall: () => "2026-11-21T00:00:00.000Z" as WallTime,
};
const files: StateFiles = {
  read: (name) => Promise.resolve(texts.get(name) ?? null),
  write: async (name, text) => {
    await Promise.resolve();
    texts.set(name, text);
  },
  remove: (name) => {
    texts.delete(name);
    return Promise.resolve();
  },
  append: () => Promise.resolve(),
  lines: () => Promise.resolve([]),
};
const load = (): Promise<Membership> =>
  loadMembership(
    files,
    "db2" as NodeName,
    { nodeId: "n", incarnation: "5b4a7c1e-0000-4000-8000-000000000000" },
    { random: systemRandom, clock },
  );
const token = (number: number): FencingToken => number as FencingToken;
const grant: Grant = { holder: "db1" as NodeName, token: token(4), holdMs: 5000 };
const may = (): null => null;
const give = (membership: Membership): Promise<void> => membership.give(grant, clock.now(), may);

describe("grants and promises of one node", () => {
  it("a grant is durable when it is given, and binds from receipt", async () => {
    const membership = await load();
    await give(membership);
    expect(JSON.parse(texts.get("grant") ?? "")).toEqual(grant);
    expect(membership.grant).toMatchObject({ ...grant, forMs: 5050 });
    ms += 5049;
    expect(membership.grant).not.toBeNull();
    ms += 1;
    expect(membership.grant).toBeNull();
  });

  it("while it binds, the next token is not promised, neither over a lease that ran out nor by another way", async () => {
    const membership = await load();
    await give(membership);
    await expect(membership.promise(token(5), "run-out")).rejects.toMatchObject({ code: "GRANT_REFUSED" });
    expect(membership.promised).toBeNull();
    expect(texts.has("promise")).toBe(false);
    ms += 5050;
    await membership.promise(token(5), "run-out");
    expect(membership.promised).toBe(5);
  });

  it("a release ends it, and a lease of a higher token is not what it was given for", async () => {
    const membership = await load();
    await give(membership);
    await membership.promise(token(5), "released");
    expect(membership.promised).toBe(5);
    await membership.promise(token(6), "run-out");
    expect(membership.promised).toBe(6);
  });

  it("of a promise and a grant at the same moment only one is given", async () => {
    const first = await load();
    const refusal = (of: Membership) => (): string | null => (of.promised === null ? null : "promised");
    const both = await Promise.allSettled([
      first.promise(token(5), "run-out"),
      first.give(grant, clock.now(), refusal(first)),
    ]);
    expect(both.map((each) => each.status)).toEqual(["fulfilled", "rejected"]);
    texts.clear();
    const second = await load();
    const reversed = await Promise.allSettled([
      second.give(grant, clock.now(), refusal(second)),
      second.promise(token(5), "run-out"),
    ]);
    expect(reversed.map((each) => each.status)).toEqual(["fulfilled", "rejected"]);
  });

  it("binds for its whole length again after a restart, until it is tidied away", async () => {
    await give(await load());
    ms += 5000;
    const restarted = await load();
    expect(restarted.grant).toMatchObject({ forMs: 5050 });
    await restarted.tidy();
    expect(texts.has("grant")).toBe(true);
    ms += 5050;
    await restarted.tidy();
    expect((await load()).grant).toBeNull();
  });

  it("is not given when it cannot be made durable", async () => {
    const membership = await loadMembership(
      { ...files, write: () => Promise.reject(new Error("no space left")) },
      "db2" as NodeName,
      { nodeId: "n", incarnation: "5b4a7c1e-0000-4000-8000-000000000000" },
      { random: systemRandom, clock },
    );
    await expect(give(membership)).rejects.toThrow("no space left");
    expect(membership.grant).toBeNull();
  });

  it("a shorter grant for the same token does not cut a longer one short", async () => {
    const membership = await load();
    await give(membership);
    await membership.give({ ...grant, holdMs: 1000 }, clock.now(), may);
    expect(membership.grant).toMatchObject({ forMs: 5050 });
  });
});
