import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ManualTime } from "../../../test/support/manual-time.ts";
import { WalWriter } from "../../../test/support/wal.ts";
import { openStateFiles } from "../../agent/state-files.ts";
import { isAncestor } from "../../cluster/rejoin.ts";
import { systemRandom } from "../../system/random.ts";
import { systemTimers } from "../../system/timers.ts";
import { formatLsn, lsnFromBytes, type Lsn } from "../../values/lsn.ts";
import type { FencingToken, SystemIdentifier, Timeline } from "../../values/names.ts";
import type { WallTime } from "../../values/time.ts";
import type { ReplicationConnection } from "../replication/connection.ts";
import { commandFault, loginFault } from "../replication/refusal.ts";
import type { WalStream, WalStreamHandler } from "../replication/wal-stream.ts";
import { Deliveries } from "./deliveries.ts";
import { LiveDirectory } from "./live-directory.ts";
import { NoteBook } from "./notes.ts";
import type { ReceiverReport } from "./protocol.ts";
import { Receiver } from "./receiver.ts";
import type { SourceTarget, WalSource } from "./source.ts";
import { standingOf } from "./standing.ts";

const segmentBytes = 1 << 20;
const system = 42n;
const start = 3 * segmentBytes;
const name = "000000010000000000000003";
const lsn = (at: number): Lsn => lsnFromBytes(BigInt(at));

/** A server as far as the replication protocol shows it. */
class FakeServer {
  timeline = 1;
  end = start;
  history: string | null = null;
  /** What a connection meets; null = it is let in. */
  refusal: { readonly code: string; readonly message: string } | null = null;
  hasWal = true;
  /** Names it was connected to under, and what was asked to be streamed. */
  readonly names: string[] = [];
  readonly streams: { readonly name: string; readonly command: string }[] = [];
  wal: Buffer = Buffer.alloc(0);

  connect(as: string): ReplicationConnection {
    this.names.push(as);
    if (this.refusal !== null) throw loginFault({ severity: "FATAL", ...this.refusal }, target as never);
    const row = (values: Readonly<Record<string, string>>): unknown[] => [
      { columns: Object.keys(values), rows: [Object.values(values)] },
    ];
    const query = (command: string): Promise<unknown[]> => {
      const [word = ""] = command.split(" ");
      if (word === "IDENTIFY_SYSTEM")
        return Promise.resolve(
          row({
            systemid: String(system),
            timeline: String(this.timeline),
            xlogpos: formatLsn(lsn(this.end)),
          }),
        );
      if (word === "SHOW") return Promise.resolve(row({ wal_segment_size: "1MB" }));
      if (word !== "TIMELINE_HISTORY") return Promise.resolve([]);
      if (this.history === null)
        return Promise.reject(
          commandFault({ severity: "ERROR", code: "58P01", message: "no file" }, command),
        );
      return Promise.resolve(row({ filename: "x", content: this.history }));
    };
    const stream = (command: string, handler: WalStreamHandler): Promise<WalStream> => {
      this.streams.push({ name: as, command });
      if (!this.hasWal)
        return Promise.reject(
          commandFault({ severity: "ERROR", code: "58P01", message: "removed" }, command),
        );
      const from = Number(BigInt(`0x${/0\/([0-9A-F]+)/.exec(command)?.[1] ?? "0"}`));
      const bytes = this.wal.subarray(from - start);
      if (bytes.length > 0)
        systemTimers.after(0, () =>
          handler.data(lsn(from), Buffer.from(bytes), { end: lsn(this.end), sentAt: 0 }),
        );
      const nothing = (): void => undefined;
      return Promise.resolve({ report: nothing, pause: nothing, resume: nothing, close: nothing } as never);
    };
    const connection = { serverVersion: 140_000, description: "db1", query, stream, close: () => undefined };
    return connection as never;
  }
}

const target: SourceTarget = {
  name: "db1",
  host: "h",
  port: 5432,
  token: 2 as FencingToken,
  slot: "archive",
};

describe("a receiver", () => {
  let dir: string;
  let live: LiveDirectory;
  let notes: NoteBook;
  let time: ManualTime;
  let reports: ReceiverReport[];
  let receiver: Receiver;
  let ending: AbortController;
  let running: Promise<void>;
  let renewed: number;

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), "pgherd-receiver-"));
    live = await LiveDirectory.open(dir);
    notes = await NoteBook.open(await openStateFiles(dir));
    await notes.change(() => ({ systemIdentifier: String(system) as SystemIdentifier, segmentBytes }));
    time = new ManualTime("2026-11-21T12:00:00.000Z" as WallTime);
    reports = [];
    renewed = 0;
    ending = new AbortController();
    running = Promise.resolve();
  });
  afterEach(async () => {
    ending.abort();
    const state = { over: false };
    void running.finally(() => (state.over = true));
    while (!state.over) {
      time.pass(2_000);
      await systemTimers.sleep(5);
    }
    rmSync(dir, { recursive: true, force: true });
  });

  async function begin(leader: FakeServer, other: FakeServer | null = null): Promise<void> {
    const deliveries = new Deliveries(live, notes, (report) => reports.push(report));
    receiver = new Receiver({
      live,
      notes,
      deliveries,
      clock: time,
      timers: time,
      random: systemRandom,
      log: () => undefined,
    });
    receiver.stand(await standingOf(live, notes.notes, []));
    const second: SourceTarget = { ...target, name: "db2", slot: null };
    const source: WalSource = {
      plainName: "archive",
      target: () => target,
      onTarget: () => () => undefined,
      others: () => (other === null ? [] : [second]),
      oldest: () => null,
      applicationName: (_, line) => {
        const position = receiver.position();
        if (position === null) return "archive!";
        if (line === null) return null;
        return isAncestor(position, line) ? "archive!" : "archive";
      },
      connect: (to, as) =>
        Promise.resolve().then(() => (to === second ? (other ?? leader) : leader).connect(as)),
      renew: () => {
        renewed += 1;
        return Promise.resolve();
      },
      problem: () => null,
      report: () => undefined,
      close: () => Promise.resolve(),
    };
    running = receiver.run(source, ending.signal);
  }

  async function until(done: () => boolean, ms = 0): Promise<void> {
    for (let tries = 0; !done(); tries += 1) {
      if (tries > 1_000) throw new Error("it did not come");
      await systemTimers.sleep(5);
      time.pass(ms);
    }
  }

  function received(writer: WalWriter): void {
    writeFileSync(live.partialPath(name), writer.bytes(true));
  }

  function wal(records: number): WalWriter {
    const writer = new WalWriter(start, segmentBytes, system);
    for (let count = 0; count < records; count += 1) writer.write({ kind: "plain", bytes: 500 });
    return writer;
  }

  it("streams under its proven name once it has put aside what is on no line", async () => {
    const writer = wal(20);
    received(writer);
    const fork = writer.starts[10] ?? 0;
    const leader = new FakeServer();
    Object.assign(leader, { timeline: 2, end: fork, wal: writer.bytes().subarray(0, fork - start) });
    leader.history = `1\t${formatLsn(lsn(fork))}\tpromoted\n`;
    await begin(leader);
    await until(() => leader.streams.length > 0 && Number(receiver.position()?.lsn) === fork);
    expect(renewed).toBe(1);
    expect(reports.filter(({ kind }) => kind === "orphan")).toHaveLength(1);
    expect(leader.streams.map((stream) => stream.name)).toEqual(["archive!"]);
  });

  it("says where it stands on a line the server has, not on the branch it put aside", async () => {
    const writer = wal(10);
    const fork = writer.position;
    writer.fork(2);
    for (let count = 0; count < 40; count += 1) writer.write({ kind: "plain", bytes: 500 });
    writeFileSync(live.partialPath(`00000002${name.slice(8)}`), writer.bytes(true));
    await live.storeHistory(2 as Timeline, `1\t${formatLsn(lsn(fork))}\tpromoted\n`);
    const leader = new FakeServer();
    leader.end = fork + 8;
    leader.wal = wal(10).bytes();
    await begin(leader);
    await until(() => leader.streams.length > 0);
    expect(receiver.position()).toEqual({ timeline: 1, lsn: lsn(fork) });
    expect(leader.streams.map((stream) => stream.name)).toEqual(["archive!"]);
  });

  it("puts nothing aside while a server does not have the history of its timeline", async () => {
    received(wal(20));
    const leader = new FakeServer();
    Object.assign(leader, { timeline: 2, end: start + 30_000 });
    await begin(leader);
    await until(() => receiver.status().problem !== null);
    expect(receiver.status().problem?.code).toBe("BACKUP_WAL_HISTORY_MISSING");
    expect(renewed).toBe(0);
    expect((await live.list()).partial).toEqual([name]);
  });

  it("waits for a server that starts and may have what the leader has not, before it gives WAL up", async () => {
    received(wal(20));
    const leader = new FakeServer();
    Object.assign(leader, { end: start + 5 * segmentBytes, hasWal: false });
    const other = new FakeServer();
    other.refusal = { code: "57P03", message: "the database system is starting up" };
    await begin(leader, other);
    await until(() => other.names.length > 5, 200);
    expect(reports.filter(({ kind }) => kind === "gap")).toEqual([]);
    other.refusal = null;
    other.hasWal = false;
    await until(() => reports.some(({ kind }) => kind === "gap"), 200);
  });

  it("tells again of the part before a gap when it starts behind that", async () => {
    const writer = wal(20);
    received(writer);
    const deliveries = new Deliveries(live, notes, (report) => reports.push(report));
    const resumeAt = { timeline: 1 as Timeline, lsn: lsn(7 * segmentBytes) };
    await notes.change(() => ({ resumeAt }));
    const standing = await standingOf(live, notes.notes, []);
    expect(standing).toEqual({ position: resumeAt, hasWal: false });
    await deliveries.begin([], standing?.position ?? null);
    expect(reports.find(({ kind }) => kind === "partial")).toMatchObject({
      name,
      endLsn: formatLsn(lsn(writer.position)),
    });
  });

  it("begins with what the server writes now when what it was to begin with is gone", async () => {
    const leader = new FakeServer();
    leader.hasWal = false;
    await begin(leader);
    await until(() => leader.streams.length > 2, 200);
    leader.end = start + 4 * segmentBytes;
    await until(() => leader.streams.at(-1)?.command.includes("0/700000") === true, 200);
    expect(reports.filter(({ kind }) => kind === "gap")).toEqual([]);
  });
});
