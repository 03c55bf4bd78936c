import { keptIn } from "../../../src/backup/member/kept.ts";
import { ReceiverMember, type StreamTarget } from "../../../src/backup/member/receiver-member.ts";
import { nextStretch, type LinePosition, type ServerLine } from "../../../src/backup/receiver/line.ts";
import { keys } from "../../../src/dcs/layout.ts";
import type { Upstream } from "../../../src/postgres/instance.ts";
import { Fault } from "../../../src/values/fault.ts";
import type { NodeName } from "../../../src/values/names.ts";
import type { SimProcess } from "../engine.ts";
import { describe, type SimNode } from "../node.ts";
import { simulatedPeers } from "../peers.ts";
import { Calls } from "../postgres/calls.ts";
import type { Postgres } from "../postgres/postgres.ts";
import type { Server } from "../postgres/server.ts";
import { DataDirectory, segmentBytes, toLsn, toTimeline } from "../postgres/wal.ts";
import { randomPort } from "../rng.ts";
import type { SimStore } from "../store.ts";
import { ArchiveStream } from "./stream.ts";

const connectMs = 3000;
/** After an attempt that failed, in milliseconds. */
const retryMs = { first: 20, longest: 1000 };

/**
 * A backup server: the program's own member (src/backup/member/) around a model of the receiver, which goes on where the program's
 * own line.ts says. Its WAL is kept as a data directory that no server works in.
 */
export class SimArchive {
  readonly postgres: Postgres;
  /** The process that receives; it is started again when it ends. */
  agent: SimProcess | null = null;
  member: ReceiverMember | null = null;
  stream: ArchiveStream | null = null;
  readonly #store: SimStore;
  readonly #find: (name: string) => SimNode | undefined;
  #wake: () => void = () => undefined;

  constructor(postgres: Postgres, store: SimStore, find: (name: string) => SimNode | undefined) {
    this.postgres = postgres;
    this.#store = store;
    this.#find = find;
  }

  get name(): NodeName {
    return this.postgres.host.name;
  }
  get recordKey(): string {
    return keys.receiver(this.name);
  }

  /** Starts the receiver; it is started again after each death while the host is up. */
  start(): void {
    const { host, net } = this.postgres;
    if (!host.up || this.agent?.alive === true) return;
    const process = host.spawn("receiver");
    this.agent = process;
    process.onDeath(() => {
      this.member = null;
      this.stream?.close();
      net.engine.after(net.rng.between(150, 1500), () => this.start());
    });
    this.#trace("receiver starts");
    // What was written is read again, and durable before it is told.
    host.disk.sync(process, () => {
      const { data } = this.postgres;
      if (data !== null) data.flushed = data.records.length;
      this.#run(process).catch((thrown: unknown) => {
        this.#trace(`receiver ends: ${String(thrown)}`);
        process.kill();
      });
    });
  }

  /** The end of what is durable here. */
  position(): LinePosition | null {
    const { data } = this.postgres;
    if (data === null || data.flushed <= data.oldest) return null;
    const last = data.records[data.flushed - 1];
    return last === undefined ? null : { timeline: toTimeline(last.timeline), lsn: toLsn(last.end) };
  }

  async #run(process: SimProcess): Promise<void> {
    const { host, net } = this.postgres;
    const timers = host.timers(process);
    const kept = await keptIn(host.stateFiles(process), randomPort(net.rng));
    const member = new ReceiverMember(
      { name: this.name, version: "0.0.0-simulated", host: this.name, apiUrl: null, synchronous: true },
      {
        dcs: this.#store.connect(this.name, process, timers),
        peers: simulatedPeers({ host, network: net.network, process, find: this.#find }),
        clock: host.clock,
        timers,
        random: randomPort(net.rng),
        log: (_level, event, fields) => net.observer.trace(this.name, () => `${event} ${describe(fields)}`),
        kept,
      },
      { stop: () => this.#stop(process), position: () => this.position() },
    );
    this.member = member;
    member.onTarget(() => {
      this.stream?.close();
      this.#wake();
    });
    member.open();
    for (let pause = 0; ;) {
      const { target } = member;
      let failed = false;
      if (target !== null)
        failed = await this.#follow(process, member, target).catch((thrown: unknown) => {
          this.#trace(`receiver: ${String(thrown)}`);
          return true;
        });
      this.#report(member, null, null);
      pause = failed ? Math.min(Math.max(pause * 2, retryMs.first), retryMs.longest) : 0;
      if (member.target === null || pause > 0)
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
          timers.after(pause > 0 ? pause : retryMs.longest, resolve);
        });
    }
  }

  /** Nothing is received or acknowledged any more when this resolves. */
  #stop(process: SimProcess): Promise<void> {
    this.stream?.close();
    return new Promise((resolve) =>
      this.postgres.host.disk.sync(process, () => {
        const { data } = this.postgres;
        if (data !== null) data.flushed = data.records.length;
        resolve();
      }),
    );
  }

  /** One stream from one holder, to its end. @returns whether it never began */
  async #follow(process: SimProcess, member: ReceiverMember, target: StreamTarget): Promise<boolean> {
    let name = member.applicationName(target, null);
    const at: Upstream = {
      host: target.host,
      port: target.port,
      slot: target.slot,
      applicationName: name ?? this.name,
    };
    const calls = new Calls(this.postgres, process);
    const { server, line } = await calls.remote<{ server: Server; line: ServerLine }>(
      at,
      connectMs,
      (there, done) =>
        done({
          server: there,
          line: {
            timeline: toTimeline(there.data.timeline),
            lsn: toLsn(there.position),
            forks: there.data.histories.get(there.data.timeline) ?? [],
          },
        }),
    );
    name ??= member.applicationName(target, line) ?? this.name;
    await this.#prepare(member, server, line, target.slot);
    if (member.target !== target) return false;
    const { data } = this.postgres;
    if (data === null) return true;
    for (const [timeline, forks] of server.data.histories) data.histories.set(timeline, forks);
    const proven = name === this.name ? null : target.token;
    const stream = new ArchiveStream({
      process,
      data,
      postgres: this.postgres,
      upstream: { ...at, applicationName: name },
    });
    this.stream = stream;
    const began = await stream.run(server, () => this.#report(member, target, proven));
    if (this.stream === stream) this.stream = null;
    if (stream.isWalGone && member.target === target) await this.#leaveGap(member, server);
    return !began;
  }

  /** Goes on where the program's own rule says; what is on no line of the leader is left, as another member. */
  async #prepare(member: ReceiverMember, server: Server, line: ServerLine, slot: string): Promise<void> {
    const at = this.position();
    const { data } = this.postgres;
    if (at === null || data === null) {
      this.#begin(server, server.data.slots.get(slot)?.restart ?? null);
      return;
    }
    const next = nextStretch(at, data.histories.get(at.timeline) ?? [], line);
    if (next.kind === "ahead")
      throw new Fault(
        "BACKUP_WAL_STALE",
        `${server.node} has less WAL than was received from the leader before it`,
      );
    if (next.kind !== "cross" || next.orphanFrom === null) return;
    await member.renew();
    data.records.length = Math.max(data.oldest, data.countUntil(Number(next.fork)));
    data.flushed = data.records.length;
  }

  /** With nothing before it: from what the slot holds, else from the segment being written. */
  #begin(server: Server, restart: number | null): void {
    const { data: there } = server;
    const end = there.endOf(there.flushed);
    const segment = there.countUntil(end - (end % segmentBytes));
    const count = Math.max(there.oldest, Math.min(restart ?? Infinity, segment));
    const data = new DataDirectory(there.systemIdentifier);
    data.records = there.records.slice(0, count);
    Object.assign(data, { flushed: count, oldest: count });
    this.postgres.data = data;
  }

  /** The leader has not the WAL to go on with any more. */
  async #leaveGap(member: ReceiverMember, server: Server): Promise<void> {
    this.#trace("receiver leaves a gap");
    await member.renew();
    this.#begin(server, null);
  }

  #report(member: ReceiverMember, from: StreamTarget | null, token: StreamTarget["token"] | null): void {
    member.report({
      state: from === null ? "connecting" : "streaming",
      systemIdentifier: this.postgres.data?.systemIdentifier ?? null,
      upstream: from?.node ?? null,
      token,
      archivedLsn: null,
      lastBackupAt: null,
      lastDrillAt: null,
      gap: null,
      problem: null,
    });
  }

  #trace(text: string): void {
    this.postgres.net.observer.trace(this.name, () => text);
  }
}
