import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { commit, record, replay, transaction } from "../../src/dcs/dcs.contract.ts";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { etcdClient, startLoad, type Gaps } from "../support/dcs-load.ts";
import { startEtcd, type EtcdMember, type TestEtcd } from "../support/etcd.ts";
import { startRelay, type Relay } from "../support/relay.ts";

/** Gaps differ with the machine's load; the bounds only tell a quick change of endpoint from none. */
const bounds = { followerMs: 2000, leaderMs: 8000 };

describe("an etcd cluster of three with a member in trouble", () => {
  let etcd: TestEtcd;
  let prefix: string;
  let tests = 0;
  const relays: Relay[] = [];
  beforeAll(async () => {
    etcd = await startEtcd({ members: 3 });
  });
  beforeEach(() => {
    prefix = `/service/shop${String(tests++)}/`;
  });
  afterEach(async () => {
    for (const member of etcd.members) {
      member.thaw();
      if (member.pid === undefined) await member.restart();
    }
    await Promise.all(relays.splice(0).map((relay) => relay.stop()));
    await etcd.ready();
  });
  afterAll(() => etcd.stop());
  const relayTo = async (member: EtcdMember): Promise<Relay & { endpoint: string }> => {
    const relay = await startRelay(Number(new URL(member.endpoint).port));
    relays.push(relay);
    return { ...relay, endpoint: `http://127.0.0.1:${String(relay.port)}` };
  };
  const follower = async (): Promise<EtcdMember> => {
    const leader = await etcd.leader();
    const found = etcd.members.find((member) => member.name !== leader.name);
    if (found === undefined) throw new Error("there is no follower");
    return found;
  };
  /** Traffic whose observed client is attached to `first` while the trouble comes and goes. */
  const endure = async (name: string, first: string, member: EtcdMember, trouble: Trouble): Promise<Gaps> => {
    const others = etcd.members.filter((other) => other.name !== member.name).map((other) => other.endpoint);
    const load = await startLoad(
      etcdClient({ endpoints: [first, ...others], prefix }),
      etcdClient({ endpoints: others, prefix }),
    );
    await until(() => load.answered() > 20);
    await trouble.begin();
    const before = load.answered();
    await until(() => load.answered() > before + 50);
    await trouble.end();
    const after = load.answered();
    await until(() => load.answered() > after + 50);
    const gaps = await load.finish();
    console.log(
      `${name.padEnd(22)} longest gap, ms: reads ${gaps.readMs}, guarded writes ${gaps.writeMs}, ` +
        `watch ${gaps.watchMs}; the store itself ${gaps.storeMs}`,
    );
    return gaps;
  };

  test("a frozen follower stops neither requests nor the watch, and no change is lost", async () => {
    const member = await follower();
    const gaps = await endure("frozen follower", member.endpoint, member, {
      begin: () => member.freeze(),
      end: () => member.thaw(),
    });
    expect(Math.max(gaps.readMs, gaps.watchMs, gaps.writeMs)).toBeLessThan(bounds.followerMs);
  });

  test("a killed follower stops neither requests nor the watch, and no change is lost", async () => {
    const member = await follower();
    const gaps = await endure("killed follower", member.endpoint, member, {
      begin: () => member.kill(),
      end: () => member.restart(),
    });
    expect(Math.max(gaps.readMs, gaps.watchMs, gaps.writeMs)).toBeLessThan(bounds.followerMs);
  });

  test("a black-holed endpoint stops neither requests nor the watch, and no change is lost", async () => {
    const member = await follower();
    const relay = await relayTo(member);
    const gaps = await endure("black-holed endpoint", relay.endpoint, member, {
      begin: () => relay.set("hold"),
      end: () => relay.set("open"),
    });
    expect(Math.max(gaps.readMs, gaps.watchMs, gaps.writeMs)).toBeLessThan(bounds.followerMs);
  });

  test("the death of the etcd leader costs its election, and no change is lost", async () => {
    const member = await etcd.leader();
    const gaps = await endure("killed leader", member.endpoint, member, {
      begin: () => member.kill(),
      end: () => member.restart(),
    });
    expect(Math.max(gaps.readMs, gaps.watchMs, gaps.writeMs)).toBeLessThan(bounds.leaderMs);
  });

  test("a frozen etcd leader costs its election, and no change is lost", async () => {
    const member = await etcd.leader();
    const gaps = await endure("frozen leader", member.endpoint, member, {
      begin: () => member.freeze(),
      end: () => member.thaw(),
    });
    expect(Math.max(gaps.readMs, gaps.watchMs, gaps.writeMs)).toBeLessThan(bounds.leaderMs);
  });

  test("a watch that is idle notices a frozen member within a second and sees the next change", async () => {
    const member = await follower();
    const others = etcd.members.filter((other) => other.name !== member.name).map((other) => other.endpoint);
    const observed = etcdClient({ endpoints: [member.endpoint, ...others], prefix });
    const writer = etcdClient({ endpoints: others, prefix });
    const watched = record(observed);
    await watched.until((events) => events.some((event) => event.kind === "alive"));
    member.freeze();
    await commit(writer, [], [["k", "1"]]);
    const started = performance.now();
    await watched.until((events) => replay(events).has("k"));
    const gapMs = Math.round(performance.now() - started);
    console.log(`idle watch, frozen     a change came after ${gapMs} ms`);
    expect(gapMs).toBeLessThan(bounds.followerMs);
    await Promise.all([observed.close(), writer.close()]);
  });

  test("when all members go down and come back, requests and the watch go on", async () => {
    const observed = etcdClient({ endpoints: etcd.endpoints, prefix });
    const version = await commit(observed, [], [["k", "1"]]);
    const watched = record(observed);
    await watched.until((events) => events.length > 0);
    await Promise.all(etcd.members.map((member) => member.kill()));
    await watched.until((events) => events.some((event) => event.kind === "lost"));
    await expect(observed.read(500)).rejects.toMatchObject({ code: "DCS_UNREACHABLE" });
    const write = observed.transact(transaction([["k", version]], [["k", "never"]]), 500);
    await expect(write).rejects.toMatchObject({ code: "DCS_UNREACHABLE" });
    await Promise.all(etcd.members.map((member) => member.restart()));
    await etcd.ready();
    await commit(observed, [["k", version]], [["k", "2"]]);
    await watched.until((events) => replay(events).get("k") === "2");
    expect(watched.events.filter((event) => event.kind === "snapshot")).toHaveLength(1);
    await observed.close();
  });

  test("without a quorum a read ends with DCS_UNREACHABLE in time", async () => {
    const observed = etcdClient({ endpoints: etcd.endpoints, prefix });
    await observed.read(2000);
    const leader = await etcd.leader();
    const [survivor] = etcd.members.filter((member) => member.name !== leader.name);
    await Promise.all(etcd.members.filter((member) => member !== survivor).map((member) => member.kill()));
    const started = performance.now();
    await expect(observed.read(1000)).rejects.toMatchObject({ code: "DCS_UNREACHABLE" });
    expect(performance.now() - started).toBeLessThan(2000);
    await observed.close();
  });

  test("a guarded write whose first member is a black hole is committed by the next one", async () => {
    const [first, second] = etcd.members as [EtcdMember, EtcdMember];
    const relay = await relayTo(first);
    const dcs = etcdClient({ endpoints: [relay.endpoint, second.endpoint], prefix });
    const version = await commit(dcs, [["lease", 0]], [["lease", "1"]]);
    await relay.set("hold");
    const started = performance.now();
    const result = await dcs.transact(transaction([["lease", version]], [["lease", "2"]]), 2000);
    expect(result.outcome).toBe("committed");
    expect(performance.now() - started).toBeLessThan(1500);
    await dcs.close();
  });

  test("a guarded write whose reply is lost is uncertain, not a conflict", async () => {
    const [first, second] = etcd.members as [EtcdMember, EtcdMember];
    const relay = await relayTo(first);
    const dcs = etcdClient({ endpoints: [relay.endpoint, second.endpoint], prefix });
    const version = await commit(dcs, [["lease", 0]], [["lease", "1"]]);
    await relay.set("hold-replies");
    const write = dcs.transact(transaction([["lease", version]], [["lease", "2"]]), 2000);
    await expect(write).rejects.toMatchObject({ code: "DCS_UNCERTAIN" });
    expect((await dcs.read(2000)).entries.get("lease")?.value).toBe("2");
    await dcs.close();
  });

  test("a guarded write that no member answers is uncertain when one of them may have got it", async () => {
    const held = await Promise.all(etcd.members.map(relayTo));
    const dcs = etcdClient({ endpoints: held.map((relay) => relay.endpoint), prefix });
    const version = await commit(dcs, [["lease", 0]], [["lease", "1"]]);
    await Promise.all(held.map((relay) => relay.set("hold")));
    const write = dcs.transact(transaction([["lease", version]], [["lease", "2"]]), 1000);
    await expect(write).rejects.toMatchObject({ code: "DCS_UNCERTAIN" });
    await dcs.close();
  });

  test("an unguarded write that may have been sent is not tried elsewhere", async () => {
    const [first, second] = etcd.members as [EtcdMember, EtcdMember];
    const relay = await relayTo(first);
    const dcs = etcdClient({ endpoints: [relay.endpoint, second.endpoint], prefix });
    await dcs.read(2000);
    await relay.set("hold");
    const write = dcs.transact(transaction([["initialize", 0]], [["initialize", ""]]), 2000);
    await expect(write).rejects.toMatchObject({ code: "DCS_UNCERTAIN" });
    expect((await dcs.read(2000)).entries.size).toBe(0);
    await dcs.close();
  });

  test("a write to an endpoint nobody listens on is made at the next one", async () => {
    const [first, second] = etcd.members as [EtcdMember, EtcdMember];
    const relay = await relayTo(first);
    await relay.set("refuse");
    const dcs = etcdClient({ endpoints: [relay.endpoint, second.endpoint], prefix });
    expect(await commit(dcs, [["initialize", 0]], [["initialize", ""]])).toBeGreaterThan(0);
    await dcs.close();
  });
});

test("a store that was wiped and comes back empty is reported as a new snapshot", async () => {
  const etcd = await startEtcd();
  const dcs = etcdClient({ endpoints: etcd.endpoints, prefix: "/service/shop/" });
  for (const value of ["1", "2", "3"]) await commit(dcs, [], [["k", value]]);
  const watched = record(dcs);
  await watched.until((events) => events.length > 0);
  const [member] = etcd.members as [EtcdMember];
  await member.kill();
  await rm(join(etcd.dir, member.name), { recursive: true });
  await member.restart();
  await etcd.ready();
  expect((await dcs.read(5000)).entries.size).toBe(0);
  await watched.until((events) => events.filter((event) => event.kind === "snapshot").length === 2);
  const version = await commit(dcs, [["k", 0]], [["k", "new"]]);
  await watched.until((events) =>
    events.some((event) => event.kind === "changes" && event.revision === version),
  );
  await dcs.close();
  await etcd.stop();
});

interface Trouble {
  readonly begin: () => void | Promise<void>;
  readonly end: () => void | Promise<void>;
}

async function until(test: () => boolean): Promise<void> {
  while (!test()) await new Promise((resolve) => setTimeout(resolve, 20));
}
