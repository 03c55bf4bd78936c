import { join } from "node:path";
import { afterAll, beforeAll, expect } from "vitest";
import { BackupPlace } from "../support/backup-base.ts";
import { scenario, startCluster, type CommandResult, type TestCluster } from "../support/cluster.ts";
import { waitFor } from "../support/process.ts";

let cluster: TestCluster;
let place: BackupPlace;
/** Slow enough that a switchover fits in. */
const maxRate = 2_000_000;

beforeAll(async () => {
  cluster = await startCluster({ label: "bc", ttlSeconds: 3 });
  const demo = await cluster.demo();
  const endpoints = demo.etcd.members.map(({ endpoint }) => `"${endpoint}"`).join(", ");
  place = await BackupPlace.of(join(cluster.dir, "backups"), [
    `cluster: ${demo.cluster}`,
    `dcs: { etcd: [${endpoints}] }`,
  ]);
  const { primary } = await cluster.settled();
  await cluster.sql(primary, "create table t as select i, md5(i::text) x from generate_series(1, 50000) i");
});
afterAll(() => cluster.remove());

scenario(
  "the best standby is copied, and goes on while two others change places",
  () => cluster,
  async () => {
    const { primary, standbys } = await cluster.whole();
    const first = await place.backup();
    const source = first.summary.source ?? "";
    expect(standbys).toContain(source);
    const [target = ""] = standbys.filter((name) => name !== source);
    const moves: Promise<CommandResult>[] = [];
    let moved = false;
    let piecesAfter = 0;
    const { summary, lines } = await place.backup(
      { maxRate, type: "full", from: { node: source } },
      (now) => {
        if (moved && now.step === "copying") piecesAfter += 1;
        if ((now.doneBytes ?? 0) > 500_000 && moves.length === 0)
          moves.push(moveTo(target).finally(() => (moved = true)));
      },
    );
    expect(piecesAfter).toBeGreaterThan(1);
    expect(await Promise.all(moves)).toMatchObject([{ code: 0 }]);
    expect(lines.map(({ event }) => event)).not.toContain("base.retry");
    expect(summary.source).toBe(source);
    expect(await place.restoreAndVerify(summary.id, join(cluster.dir, "restored-1"))).toContain(
      "successfully verified",
    );
    expect((await cluster.whole()).primary).not.toBe(primary);
  },
);

scenario(
  "a standby that becomes primary in the middle is given up at once, and the next one is copied",
  () => cluster,
  async () => {
    await cluster.whole();
    const moves: Promise<CommandResult>[] = [];
    const { summary, lines } = await place.backup({ maxRate, type: "full", from: "standby" }, (now) => {
      if ((now.doneBytes ?? 0) < 500_000 || moves.length > 0) return;
      moves.push(copied().then(moveTo));
    });
    expect(await Promise.all(moves)).toMatchObject([{ code: 0 }]);
    const retry = lines.find(({ event }) => event === "base.retry");
    expect(String(retry?.fields["detail"])).toContain("became the primary");
    expect(summary.source).not.toBe(retry?.fields["source"]);
    expect(summary.state).toBe("waiting");
  },
);

/** A switchover; one that is refused, such as for a candidate that lags for a moment, has changed nothing and is asked for again. */
async function moveTo(node: string): Promise<CommandResult> {
  return waitFor(
    async () => {
      const moved = await cluster.cli("switchover", "--to", node, "--yes");
      return moved.code === 1 ? undefined : moved;
    },
    { timeoutMs: 15_000, what: `a switchover to ${node}` },
  );
}

/** The node that is copied now, as the record says. */
async function copied(): Promise<string> {
  return waitFor(
    () =>
      place.withRepository((_repository, catalogue) =>
        Promise.resolve(catalogue.backups().find(({ state }) => state === "running")?.source ?? undefined),
      ),
    { timeoutMs: 10_000, what: "a backup runs" },
  );
}
