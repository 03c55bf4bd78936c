import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Dcs, DcsSnapshot, DcsTransactionResult, DcsWatchEvent } from "./dcs.ts";

/** A client whose network can be broken, so that it misses changes. */
export interface BreakableDcs {
  readonly dcs: Dcs;
  break(): void;
  heal(): void;
}

/** One store under test, shared by the tests of a suite; every test uses a prefix of its own. */
export interface ContractStore {
  connect(prefix: string): Dcs;
  connectBreakable(prefix: string): Promise<BreakableDcs>;
  /** Makes the store forget its past changes. */
  compact(): Promise<void>;
  stop(): Promise<void>;
}

/** What one watch has reported. */
export interface Recording {
  readonly events: readonly DcsWatchEvent[];
  /** Resolves when the recorded events satisfy `test`. */
  until(test: (events: readonly DcsWatchEvent[]) => boolean): Promise<void>;
  close(): void;
}

/** Watches and keeps all events. */
export function record(dcs: Dcs): Recording {
  const events: DcsWatchEvent[] = [];
  const waiting = new Set<() => void>();
  const watch = dcs.watch((event) => {
    events.push(event);
    for (const check of waiting) check();
  });
  return {
    events,
    until: (test) =>
      new Promise((resolve) => {
        const check = (): void => {
          if (!test(events)) return;
          waiting.delete(check);
          resolve();
        };
        waiting.add(check);
        check();
      }),
    close: () => watch.close(),
  };
}

/** The keys as a watch's events leave them; checks on the way that revisions only grow. */
export function replay(events: readonly DcsWatchEvent[]): Map<string, string> {
  let state = new Map<string, string>();
  let revision = 0;
  for (const event of events) {
    if (event.kind === "snapshot") {
      state = valuesOf(event.snapshot);
      revision = event.snapshot.revision;
    }
    if (event.kind === "changes") {
      expect(event.revision).toBeGreaterThan(revision);
      revision = event.revision;
      for (const [key, entry] of event.changes)
        if (entry === null) state.delete(key);
        else state.set(key, entry.value);
    }
  }
  return state;
}

const timeoutMs = 5000;

/** What every adapter of the Dcs port must do. */
export function dcsContract(name: string, start: () => Promise<ContractStore>): void {
  describe(`the DCS contract: ${name}`, () => {
    let store: ContractStore;
    let tests = 0;
    const opened: Dcs[] = [];
    beforeAll(async () => {
      store = await start();
    });
    afterEach(async () => {
      await Promise.all(opened.splice(0).map((dcs) => dcs.close()));
    });
    afterAll(() => store.stop());
    const newPrefix = (): string => `/service/contract-${String(tests++)}/`;
    const connect = (prefix: string): Dcs => {
      const dcs = store.connect(prefix);
      opened.push(dcs);
      return dcs;
    };
    const connectBreakable = async (prefix: string): Promise<BreakableDcs> => {
      const breakable = await store.connectBreakable(prefix);
      opened.push(breakable.dcs);
      return breakable;
    };

    test("an empty cluster has no entries and a revision", async () => {
      const snapshot = await connect(newPrefix()).read(timeoutMs);
      expect(snapshot.entries.size).toBe(0);
      expect(snapshot.revision).toBeGreaterThan(0);
    });

    test("a created key has the revision of its transaction as its version", async () => {
      const dcs = connect(newPrefix());
      const version = await commit(dcs, [["leader", 0]], [["leader", "n1"]]);
      const snapshot = await dcs.read(timeoutMs);
      expect(snapshot.entries.get("leader")).toEqual({ value: "n1", version });
      expect(snapshot.revision).toBeGreaterThanOrEqual(version);
    });

    test("only one of many concurrent creations of a key succeeds", async () => {
      const prefix = newPrefix();
      const clients = Array.from({ length: 8 }, () => connect(prefix));
      // One after the other, so that a store whose logins cost a hash each is not asked for eight at once.
      for (const dcs of clients) await dcs.read(timeoutMs);
      const results = await Promise.all(
        clients.map((dcs, index) =>
          dcs.transact(transaction([["initialize", 0]], [["initialize", `n${String(index)}`]]), timeoutMs),
        ),
      );
      const winners = results.flatMap((result, index) => (result.outcome === "committed" ? [index] : []));
      expect(winners).toHaveLength(1);
      expect(await values(connect(prefix))).toEqual({ initialize: `n${String(winners[0])}` });
    });

    test("a write with the version of the last change succeeds, one with an older version conflicts", async () => {
      const dcs = connect(newPrefix());
      const first = await commit(dcs, [["lease", 0]], [["lease", "1"]]);
      const second = await commit(dcs, [["lease", first]], [["lease", "2"]]);
      expect(second).toBeGreaterThan(first);
      const late = await dcs.transact(transaction([["lease", first]], [["lease", "3"]]), timeoutMs);
      expect(late).toEqual({ outcome: "conflict" });
      expect(await values(dcs)).toEqual({ lease: "2" });
    });

    test("writing the same value again is a change with a new version", async () => {
      const dcs = connect(newPrefix());
      const first = await commit(dcs, [], [["status", "same"]]);
      expect(await commit(dcs, [["status", first]], [["status", "same"]])).toBeGreaterThan(first);
    });

    test("one failed check of several leaves nothing written", async () => {
      const dcs = connect(newPrefix());
      const version = await commit(dcs, [], [["a", "1"]]);
      const result = await dcs.transact(
        transaction(
          [
            ["a", version],
            ["b", version],
          ],
          [
            ["a", "2"],
            ["b", "2"],
            ["c", "2"],
          ],
        ),
        timeoutMs,
      );
      expect(result).toEqual({ outcome: "conflict" });
      expect(await values(dcs)).toEqual({ a: "1" });
    });

    test("all keys of a transaction change together, at one revision", async () => {
      const dcs = connect(newPrefix());
      await commit(dcs, [], [["gone", "x"]]);
      const writes: [string, string | null][] = [
        ["leader", "n1"],
        ["sync", "{}"],
        ["gone", null],
      ];
      const revision = await commit(dcs, [["leader", 0]], writes);
      const { entries } = await dcs.read(timeoutMs);
      expect(Object.fromEntries(entries)).toEqual({
        leader: { value: "n1", version: revision },
        sync: { value: "{}", version: revision },
      });
    });

    test("a deleted key can be created again and never gets an old version back", async () => {
      const dcs = connect(newPrefix());
      const first = await commit(dcs, [["k", 0]], [["k", "1"]]);
      await commit(dcs, [["k", first]], [["k", null]]);
      expect(await values(dcs)).toEqual({});
      const again = await commit(dcs, [["k", 0]], [["k", "1"]]);
      expect(again).toBeGreaterThan(first);
    });

    test("deleting a key that does not exist is committed", async () => {
      const dcs = connect(newPrefix());
      expect((await dcs.transact(transaction([], [["nothing", null]]), timeoutMs)).outcome).toBe("committed");
    });

    test("a transaction without writes tells whether its checks hold", async () => {
      const dcs = connect(newPrefix());
      const version = await commit(dcs, [], [["k", "1"]]);
      expect((await dcs.transact(transaction([["k", version]], []), timeoutMs)).outcome).toBe("committed");
      expect((await dcs.transact(transaction([["k", 0]], []), timeoutMs)).outcome).toBe("conflict");
    });

    test("a transaction that writes a key twice is a defect", async () => {
      const dcs = connect(newPrefix());
      const twice = transaction(
        [],
        [
          ["k", "1"],
          ["k", "2"],
        ],
      );
      await expect(dcs.transact(twice, timeoutMs)).rejects.toMatchObject({ code: "INTERNAL" });
    });

    test("two clusters in one store do not see each other, even when one name begins with the other", async () => {
      const prefix = newPrefix();
      const one = connect(prefix);
      const other = connect(`${prefix.slice(0, -1)}2/`);
      const watched = record(one);
      await watched.until((events) => events.length > 0);
      await commit(other, [["k", 0]], [["k", "other"]]);
      await commit(one, [["k", 0]], [["k", "one"]]);
      await watched.until((events) => replay(events).has("k"));
      expect(await values(one)).toEqual({ k: "one" });
      expect(await values(other)).toEqual({ k: "other" });
      expect(watched.events.filter((event) => event.kind === "changes")).toHaveLength(1);
    });

    test("keys with slashes and values with any text come back as they were", async () => {
      const dcs = connect(newPrefix());
      const texts = ["", "ÄÖÜ ß", "日本語", "🐘🐑", "line\nline\ttab\u0000nul", '{"a":"\\"}'];
      const writes = texts.map((text, index): [string, string] => [`members/n-${String(index)}.ü`, text]);
      const watched = record(dcs);
      await watched.until((events) => events.length > 0);
      await commit(dcs, [], writes);
      expect(await values(dcs)).toEqual(Object.fromEntries(writes));
      await watched.until((events) => replay(events).size === texts.length);
      expect(Object.fromEntries(replay(watched.events))).toEqual(Object.fromEntries(writes));
    });

    test("a large value comes back whole, by read and by watch", async () => {
      const dcs = connect(newPrefix());
      const large = "0123456789abcdef".repeat(64 * 1024);
      const watched = record(dcs);
      await watched.until((events) => events.length > 0);
      await commit(dcs, [], [["history", large]]);
      expect((await dcs.read(timeoutMs)).entries.get("history")?.value).toBe(large);
      await watched.until((events) => replay(events).get("history") === large);
    });

    test("a watch begins with a snapshot of what is there", async () => {
      const dcs = connect(newPrefix());
      const version = await commit(dcs, [], [["leader", "n1"]]);
      const watched = record(dcs);
      await watched.until((events) => events.length > 0);
      const [first] = watched.events;
      if (first?.kind !== "snapshot") throw new Error("no snapshot came first");
      expect(first.snapshot.revision).toBeGreaterThanOrEqual(version);
      expect(Object.fromEntries(first.snapshot.entries)).toEqual({ leader: { value: "n1", version } });
    });

    test("a watch reports one transaction as one event, deletions as null", async () => {
      const dcs = connect(newPrefix());
      await commit(dcs, [], [["old", "x"]]);
      const watched = record(dcs);
      await watched.until((events) => events.length > 0);
      const writes: [string, string | null][] = [
        ["old", null],
        ["new", "y"],
      ];
      const revision = await commit(dcs, [], writes);
      await watched.until((events) => events.some((event) => event.kind === "changes"));
      const changes = new Map([
        ["old", null],
        ["new", { value: "y", version: revision }],
      ]);
      expect(watched.events.find((event) => event.kind === "changes")).toEqual({
        kind: "changes",
        revision,
        changes,
      });
    });

    test("every watch sees every change of concurrent writers, in the store's order", async () => {
      const prefix = newPrefix();
      const writers = Array.from({ length: 4 }, () => connect(prefix));
      const early = record(connect(prefix));
      await early.until((events) => events.length > 0);
      const revisions: number[] = [];
      const write = async (dcs: Dcs, writer: number): Promise<void> => {
        for (let count = 1; count <= 25; count += 1)
          revisions.push(await commit(dcs, [], [[`w${String(writer)}`, String(count)]]));
      };
      const writing = Promise.all(writers.map(write));
      const late = record(connect(prefix));
      await writing;
      revisions.sort((a, b) => a - b);
      expect(new Set(revisions).size).toBe(100);
      const complete = (events: readonly DcsWatchEvent[]): boolean =>
        [0, 1, 2, 3].every((writer) => replay(events).get(`w${String(writer)}`) === "25");
      await Promise.all([early.until(complete), late.until(complete)]);
      expect(changeRevisions(early.events)).toEqual(revisions);
      const [first] = late.events;
      if (first?.kind !== "snapshot") throw new Error("no snapshot came first");
      const after = revisions.filter((revision) => revision > first.snapshot.revision);
      expect(changeRevisions(late.events)).toEqual(after);
    });

    test("a watch gives signs of life while nothing changes", async () => {
      const watched = record(connect(newPrefix()));
      await watched.until((events) => events.filter((event) => event.kind === "alive").length >= 2);
      expect(watched.events[0]?.kind).toBe("snapshot");
    });

    test("a watch says that it lost contact and goes on without a gap afterwards", async () => {
      const prefix = newPrefix();
      const dcs = connect(prefix);
      const breakable = await connectBreakable(prefix);
      const watched = record(breakable.dcs);
      await watched.until((events) => events.length > 0);
      breakable.break();
      await watched.until((events) => events.some((event) => event.kind === "lost"));
      const revisions = [await commit(dcs, [], [["k", "1"]]), await commit(dcs, [], [["k", "2"]])];
      breakable.heal();
      await watched.until((events) => replay(events).get("k") === "2");
      expect(changeRevisions(watched.events)).toEqual(revisions);
      expect(watched.events.filter((event) => event.kind === "snapshot")).toHaveLength(1);
      expect(watched.events.filter((event) => event.kind === "lost")).toHaveLength(1);
    });

    test("a watch that comes back after its changes were compacted gets a new snapshot", async () => {
      const prefix = newPrefix();
      const dcs = connect(prefix);
      const breakable = await connectBreakable(prefix);
      await commit(dcs, [], [["gone", "x"]]);
      const watched = record(breakable.dcs);
      await watched.until((events) => events.length > 0);
      breakable.break();
      await watched.until((events) => events.some((event) => event.kind === "lost"));
      await commit(dcs, [], [["gone", null]]);
      await commit(dcs, [], [["k", "1"]]);
      await store.compact();
      breakable.heal();
      await watched.until((events) => events.filter((event) => event.kind === "snapshot").length === 2);
      expect(Object.fromEntries(replay(watched.events))).toEqual({ k: "1" });
      await commit(dcs, [], [["k", "2"]]);
      await watched.until((events) => replay(events).get("k") === "2");
    });

    test("without a network, requests end in time with DCS_UNREACHABLE or, when a write was sent, DCS_UNCERTAIN", async () => {
      const { dcs, ...network } = await connectBreakable(newPrefix());
      await commit(dcs, [], [["k", "1"]]);
      network.break();
      const started = performance.now();
      await expect(dcs.read(400)).rejects.toMatchObject({ code: "DCS_UNREACHABLE" });
      expect(performance.now() - started).toBeLessThan(1500);
      const write = dcs.transact(transaction([], [["k", "2"]]), 400);
      await expect(write).rejects.toHaveProperty(
        "code",
        expect.stringMatching(/^DCS_(UNREACHABLE|UNCERTAIN)$/),
      );
      network.heal();
      await expect(dcs.read(timeoutMs)).resolves.toBeDefined();
    });

    test("after a watch is closed it reports nothing more", async () => {
      const prefix = newPrefix();
      const dcs = connect(prefix);
      const closed = record(dcs);
      const open = record(dcs);
      await Promise.all([closed, open].map((watched) => watched.until((events) => events.length > 0)));
      closed.close();
      const before = closed.events.length;
      await commit(dcs, [], [["k", "1"]]);
      await open.until((events) => replay(events).has("k"));
      expect(closed.events).toHaveLength(before);
    });

    test("a watch closed by its own handler reports nothing more", async () => {
      const dcs = connect(newPrefix());
      const seen: string[] = [];
      const watch = dcs.watch((event) => {
        seen.push(event.kind);
        if (event.kind === "changes") watch.close();
      });
      const other = record(dcs);
      await other.until((events) => events.length > 0);
      for (const value of ["1", "2", "3"]) await commit(dcs, [], [["k", value]]);
      await other.until((events) => replay(events).get("k") === "3");
      expect(seen.filter((kind) => kind === "changes").length).toBeLessThanOrEqual(1);
    });

    test("closing a client ends its watches and refuses requests", async () => {
      const prefix = newPrefix();
      const dcs = connect(prefix);
      const watched = record(dcs);
      await watched.until((events) => events.length > 0);
      await dcs.close();
      const before = watched.events.length;
      await expect(dcs.read(timeoutMs)).rejects.toMatchObject({ code: "DCS_UNREACHABLE" });
      await expect(dcs.transact(transaction([], [["k", "1"]]), timeoutMs)).rejects.toMatchObject({
        code: "DCS_UNREACHABLE",
      });
      const other = connect(prefix);
      const open = record(other);
      await commit(other, [], [["k", "2"]]);
      await open.until((events) => replay(events).has("k"));
      expect(watched.events).toHaveLength(before);
    });
  });
}

type Checks = readonly (readonly [key: string, version: number])[];
type Writes = readonly (readonly [key: string, value: string | null])[];

/** A transaction in short form. */
export function transaction(checks: Checks, writes: Writes): Parameters<Dcs["transact"]>[0] {
  return {
    checks: checks.map(([key, version]) => ({ key, version })),
    writes: writes.map(([key, value]) => ({ key, value })),
  };
}

/** Writes and returns the revision; fails on a conflict. */
export async function commit(dcs: Dcs, checks: Checks, writes: Writes): Promise<number> {
  const result: DcsTransactionResult = await dcs.transact(transaction(checks, writes), timeoutMs);
  if (result.outcome !== "committed") throw new Error("the transaction conflicted");
  return result.revision;
}

/** The revisions of all changes a watch reported, in its order. */
export function changeRevisions(events: readonly DcsWatchEvent[]): number[] {
  return events.flatMap((event) => (event.kind === "changes" ? [event.revision] : []));
}

async function values(dcs: Dcs): Promise<Record<string, string>> {
  return Object.fromEntries(valuesOf(await dcs.read(timeoutMs)));
}

function valuesOf(snapshot: DcsSnapshot): Map<string, string> {
  return new Map([...snapshot.entries].map(([key, entry]) => [key, entry.value]));
}
