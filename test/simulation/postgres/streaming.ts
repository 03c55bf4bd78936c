import type { Upstream } from "../../../src/postgres/instance.ts";
import type { SimProcess } from "../engine.ts";
import type { Channel } from "../network.ts";
import type { Server } from "./server.ts";
import type { SyncNames } from "./sync-names.ts";
import { loadNames } from "./sync-rep.ts";
import { placeOf, segmentBytes, type DataDirectory, type WalRecord } from "./wal.ts";

/** wal_sender_timeout and wal_receiver_timeout. */
const timeoutMs = 10_000;
const keepaliveMs = timeoutMs / 4;

/** Who receives a stream: a standby's WAL receiver, or a backup server's. */
export interface Downstream {
  readonly node: string;
  readonly process: SimProcess;
  readonly data: DataDirectory;
  /** WAL came: records from this place on. */
  take(from: number, records: readonly WalRecord[]): void;
  /** To a diverged standby: it says that it has flushed what it was sent. */
  pretend(position: number): void;
  /** The upstream asks for a sign of life. */
  asked(): void;
  /** The stream was ended. */
  close(): void;
}

/** The upstream's end of a stream. */
export class WalSender {
  readonly server: Server;
  readonly applicationName: string;
  readonly standby: string;
  readonly slot: string | null;
  state: "catchup" | "streaming" = "catchup";
  /** The setting as this process has read it. */
  loaded = "";
  names: SyncNames | null = null;
  priority = 0;
  /** What the standby said it has flushed and replayed. */
  flushed = 0;
  replayed = 0;
  /** Records sent. */
  sent: number;
  /** The standby's WAL is not a beginning of ours, and nobody has noticed: it says yes to everything (S5). */
  readonly diverged: boolean;
  readonly #channel: Channel;
  readonly #receiver: Downstream;
  #heardAt: number;
  #open = true;

  constructor(server: Server, receiver: Downstream, upstream: Upstream, sent: number, diverged: boolean) {
    this.server = server;
    this.applicationName = upstream.applicationName;
    this.standby = receiver.node;
    this.slot = upstream.slot;
    this.sent = sent;
    this.diverged = diverged;
    this.#receiver = receiver;
    const { network, engine } = server.postgres.net;
    this.#heardAt = engine.now;
    this.#channel = network.connect(server.node, this.standby, () => this.close());
    loadNames(this, server.data.configuration.settings.synchronousStandbyNames);
    server.senders.add(this);
    this.#tick();
  }

  /** Sends what is flushed here and was not sent. */
  send(): void {
    const { data } = this.server;
    if (!this.#open) return;
    if (this.diverged) {
      if (this.#receiver.data.timeline !== data.timeline) return;
      this.#channel.send(() =>
        this.#receiver.process.deliver(() => this.#receiver.pretend(data.endOf(data.flushed))),
      );
      this.sent = data.flushed;
      return;
    }
    if (this.sent >= data.flushed) return;
    const from = this.sent;
    const records = data.records.slice(from, data.flushed);
    this.sent = data.flushed;
    this.#channel.send(() => this.#receiver.process.deliver(() => this.#receiver.take(from, records)));
  }

  /** A reply of the standby. */
  heard(flushed: number, replayed: number): void {
    if (!this.#open) return;
    const { server } = this;
    this.#heardAt = server.postgres.net.engine.now;
    this.flushed = Math.max(flushed, this.diverged ? flushed : this.flushed);
    this.replayed = replayed;
    if (this.state === "catchup" && (this.flushed >= server.data.endOf(this.sent) || this.diverged))
      this.state = "streaming";
    const slot = this.slot === null ? undefined : server.data.slots.get(this.slot);
    if (slot !== undefined) slot.restart = Math.max(slot.restart, server.data.countUntil(flushed));
    if (server.role === "primary") server.sync.release(this);
    server.onSenderProgress();
  }

  /** Ends the walsender; the standby hears of it when the network lets it. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.server.senders.delete(this);
    const slot = this.slot === null ? undefined : this.server.data.slots.get(this.slot);
    if (slot !== undefined) slot.active = [...this.server.senders].some((each) => each.slot === this.slot);
    this.#channel.close();
    const { network } = this.server.postgres.net;
    if (this.server.postgres.host.up)
      network.send(this.server.node, this.standby, () =>
        this.#receiver.process.deliver(() => this.#receiver.close()),
      );
    this.server.onSenderProgress();
  }

  #tick(): void {
    this.server.process.after(keepaliveMs, () => {
      if (!this.#open) return;
      const silent = this.server.postgres.net.engine.now - this.#heardAt;
      if (silent > timeoutMs) {
        this.close();
        return;
      }
      if (silent > keepaliveMs)
        this.#channel.send(() => this.#receiver.process.deliver(() => this.#receiver.asked()));
      this.#tick();
    });
  }
}

/** The standby's end of a stream. */
export class WalReceiver implements Downstream {
  readonly server: Server;
  readonly upstream: Upstream;
  status: "connecting" | "streaming" = "connecting";
  #sender: WalSender | null = null;
  #back: Channel | null = null;
  #flushing = false;
  #heardAt: number;
  #open = true;
  #pretended: number | null = null;

  constructor(server: Server, upstream: Upstream) {
    this.server = server;
    this.upstream = upstream;
    this.#heardAt = server.postgres.net.engine.now;
    this.#connect();
  }

  get process(): Server["process"] {
    return this.server.process;
  }
  get node(): string {
    return this.server.node;
  }
  get data(): DataDirectory {
    return this.server.data;
  }
  get open(): boolean {
    return this.#open;
  }

  #connect(): void {
    const { net } = this.server.postgres;
    const { upstream, server } = this;
    const target = net.at(upstream.host, upstream.port);
    if (target === undefined) {
      this.close();
      return;
    }
    const refuse = (why: string): void => {
      net.observer.trace(server.node, () => `receiver: ${why}`);
      net.network.send(target.host.name, server.node, () => this.process.deliver(() => this.close()));
    };
    net.network.send(
      server.node,
      target.host.name,
      () => {
        const there = target.server;
        if (!target.host.up) return;
        if (there === null) {
          refuse("connection refused");
          return;
        }
        there.process.deliver(() => this.#introduce(there, refuse));
      },
      () => this.process.deliver(() => this.close()),
    );
    this.process.after(timeoutMs, () => {
      if (this.status === "connecting") this.close();
    });
  }

  /** At the upstream: what START_REPLICATION checks. */
  #introduce(there: Server, refuse: (why: string) => void): void {
    if (!this.#open) return;
    const { data: own } = this.server;
    const { data } = there;
    if (!there.acceptsReplication) {
      refuse("the database system is starting up");
      return;
    }
    if (this.server.data.configuration.credential !== placeOf(this.upstream)) {
      refuse("no password supplied");
      return;
    }
    if (data.systemIdentifier !== own.systemIdentifier) {
      refuse("system identifier differs");
      return;
    }
    if (this.upstream.slot !== null && !data.slots.has(this.upstream.slot)) {
      refuse("slot does not exist");
      return;
    }
    const common = data.commonWith(own);
    const diverged = common < own.records.length;
    if (own.timeline > data.timeline) {
      refuse("the primary's highest timeline is behind");
      return;
    }
    if (!diverged && common < data.oldest) {
      refuse("requested WAL segment has already been removed");
      return;
    }
    if (diverged) {
      // The start position is rounded down to a segment: within one a divergence goes unnoticed, also on a timeline that
      // ended: what was replayed past the fork is reported as flushed until the stream of that timeline is over.
      const start = own.end - (own.end % segmentBytes);
      const fork = data.histories.get(data.timeline)?.find(({ timeline }) => timeline === own.timeline);
      const limit =
        own.timeline === data.timeline
          ? data.endOf(data.flushed)
          : fork === undefined
            ? -1
            : Number(fork.endLsn);
      if (start > limit) {
        refuse("requested starting point is not in this server's history");
        return;
      }
    }
    const sender = new WalSender(there, this, this.upstream, common, diverged);
    const slot = this.upstream.slot === null ? undefined : data.slots.get(this.upstream.slot);
    if (slot !== undefined) slot.active = true;
    this.server.postgres.net.network.send(there.node, this.server.node, () =>
      this.process.deliver(() => this.#accepted(sender)),
    );
  }

  #accepted(sender: WalSender): void {
    if (!this.#open) {
      sender.server.process.deliver(() => sender.close());
      return;
    }
    const { server } = this;
    const { net } = server.postgres;
    this.#sender = sender;
    this.status = "streaming";
    this.#heardAt = net.engine.now;
    this.#back = net.network.connect(server.node, sender.server.node, () => this.close());
    for (const [timeline, forks] of sender.server.data.histories) server.data.histories.set(timeline, forks);
    // What a fresh receiver shows as received begins at a segment: less than what is on disk.
    server.received ??= server.data.end - (server.data.end % segmentBytes);
    this.#pretended = sender.diverged ? server.data.endOf(server.replayed) : null;
    this.reply();
    if (!sender.diverged || sender.server.data.timeline === server.data.timeline)
      this.process.after(0, () => sender.server.process.deliver(() => sender.send()));
    if (sender.diverged) {
      // Replay finds an invalid record, or the end of the older timeline is sent.
      const old = sender.server.data.timeline !== server.data.timeline;
      this.process.after(old ? net.rng.between(10, 100) : net.rng.between(500, 5000), () => this.close());
    }
    this.#tick();
  }

  /** WAL came: written at once, flushed by one fsync for all that is there. */
  take(from: number, records: readonly WalRecord[]): void {
    const { data } = this.server;
    if (!this.#open) return;
    this.#heardAt = this.server.postgres.net.engine.now;
    if (from !== data.records.length || this.server.postgres.host.disk.full) {
      this.close();
      return;
    }
    for (const record of records) data.records.push(record);
    this.#flush();
  }

  #flush(): void {
    const { server } = this;
    if (this.#flushing) return;
    this.#flushing = true;
    const count = server.data.records.length;
    server.postgres.host.disk.sync(this.process, () => {
      this.#flushing = false;
      server.data.flushed = Math.max(server.data.flushed, Math.min(count, server.data.records.length));
      server.onReceived(server.data.endOf(server.data.flushed));
      this.reply();
      if (this.#open && server.data.records.length > count) this.#flush();
    });
  }

  /** A diverged standby says that it has flushed what it was sent. */
  pretend(position: number): void {
    if (!this.#open) return;
    this.#pretended = Math.max(position, this.#pretended ?? 0);
    this.reply();
  }

  /** The upstream asks for a sign of life. */
  asked(): void {
    this.#heardAt = this.server.postgres.net.engine.now;
    this.reply();
  }

  /** Tells the upstream how far this standby is. */
  reply(): void {
    const sender = this.#sender;
    if (!this.#open || sender === null) return;
    const { server } = this;
    const flushed = this.#pretended ?? server.data.endOf(server.data.flushed);
    const replayed = server.data.endOf(server.replayed);
    this.#back?.send(() => sender.server.process.deliver(() => sender.heard(flushed, replayed)));
  }

  /** Ends the receiver; the startup process asks for another after a while. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#back?.close();
    const sender = this.#sender;
    const { server } = this;
    if (server.receiver === this) server.receiver = null;
    if (sender !== null && server.postgres.host.up)
      server.postgres.net.network.send(server.node, sender.server.node, () =>
        sender.server.process.deliver(() => sender.close()),
      );
    server.receiveAgain();
  }

  #tick(): void {
    this.process.after(keepaliveMs, () => {
      if (!this.#open) return;
      const silent = this.server.postgres.net.engine.now - this.#heardAt;
      if (silent > timeoutMs) this.close();
      else {
        if (silent > keepaliveMs) this.#ask();
        this.#tick();
      }
    });
  }

  #ask(): void {
    const sender = this.#sender;
    if (sender === null) return;
    this.#back?.send(() =>
      sender.server.process.deliver(() => {
        sender.server.postgres.net.network.send(sender.server.node, this.server.node, () =>
          this.process.deliver(() => (this.#heardAt = this.server.postgres.net.engine.now)),
        );
      }),
    );
  }
}
