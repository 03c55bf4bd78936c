import type { Upstream } from "../../../src/postgres/instance.ts";
import type { SimProcess } from "../engine.ts";
import type { Channel } from "../network.ts";
import type { Postgres } from "../postgres/postgres.ts";
import type { Server } from "../postgres/server.ts";
import { WalSender, type Downstream } from "../postgres/streaming.ts";
import type { DataDirectory, WalRecord } from "../postgres/wal.ts";

/** As the program's own session (src/backup/receiver/session.ts) has them. */
const askMs = 1000;
const silentMs = 4000;

export interface ArchiveStreamParts {
  readonly process: SimProcess;
  readonly data: DataDirectory;
  /** The backup server's host and network. */
  readonly postgres: Postgres;
  readonly upstream: Upstream;
}

/** One stream into a backup server: what came is durable before it is told to be. */
export class ArchiveStream implements Downstream {
  /** The upstream refused because it has not the WAL any more. */
  isWalGone = false;
  sender: WalSender | null = null;
  readonly process: SimProcess;
  readonly data: DataDirectory;
  readonly #parts: ArchiveStreamParts;
  #back: Channel | null = null;
  #open = true;
  #flushing = false;
  #heardAt: number;
  #end: (began: boolean) => void = () => undefined;

  constructor(parts: ArchiveStreamParts) {
    this.#parts = parts;
    this.process = parts.process;
    this.data = parts.data;
    this.#heardAt = parts.postgres.net.engine.now;
  }

  get node(): string {
    return this.#parts.postgres.host.name;
  }

  /** Streams until it ends. @returns whether it began */
  run(server: Server, onOpen: () => void): Promise<boolean> {
    const { network } = this.#parts.postgres.net;
    return new Promise((resolve) => {
      this.#end = resolve;
      network.send(
        this.node,
        server.node,
        () => server.process.deliver(() => this.#introduce(server, onOpen)),
        () => this.process.deliver(() => this.close()),
      );
      this.#watch();
    });
  }

  /** At the upstream: what START_REPLICATION checks. */
  #introduce(there: Server, onOpen: () => void): void {
    if (!this.#open) return;
    const { network, observer } = this.#parts.postgres.net;
    const { upstream } = this.#parts;
    const refuse = (why: string): void => {
      observer.trace(this.node, () => `receiver: ${why}`);
      network.send(there.node, this.node, () => this.process.deliver(() => this.close()));
    };
    const { data } = there;
    const common = data.commonWith(this.data);
    if (!there.acceptsReplication) refuse("the database system is starting up");
    else if (data.systemIdentifier !== this.data.systemIdentifier) refuse("system identifier differs");
    else if (common < this.data.records.length)
      refuse("requested starting point is not in this server's history");
    else if (common < data.oldest) {
      this.isWalGone = true;
      refuse("requested WAL segment has already been removed");
    } else {
      if (upstream.slot !== null) {
        const slot = data.slots.get(upstream.slot) ?? { restart: data.checkpoint, active: true };
        slot.active = true;
        data.slots.set(upstream.slot, slot);
      }
      const sender = new WalSender(there, this, upstream, common, false);
      network.send(there.node, this.node, () => this.process.deliver(() => this.#accepted(sender, onOpen)));
    }
  }

  #accepted(sender: WalSender, onOpen: () => void): void {
    if (!this.#open) {
      sender.server.process.deliver(() => sender.close());
      return;
    }
    this.sender = sender;
    this.#heard();
    this.#back = this.#parts.postgres.net.network.connect(this.node, sender.server.node, () => this.close());
    onOpen();
    this.#reply();
    this.process.after(0, () => sender.server.process.deliver(() => sender.send()));
  }

  take(from: number, records: readonly WalRecord[]): void {
    if (!this.#open) return;
    this.#heard();
    if (from !== this.data.records.length || this.#parts.postgres.host.disk.full) {
      this.close();
      return;
    }
    for (const record of records) this.data.records.push(record);
    this.#flush();
  }

  #flush(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    const { data } = this;
    const count = data.records.length;
    this.#parts.postgres.host.disk.sync(this.process, () => {
      this.#flushing = false;
      data.flushed = Math.max(data.flushed, Math.min(count, data.records.length));
      this.#reply();
      if (this.#open && data.records.length > count) this.#flush();
    });
  }

  /** Its WAL is always a beginning of the upstream's. */
  pretend(): void {}

  asked(): void {
    this.#heard();
    this.#reply();
  }

  #heard(): void {
    this.#heardAt = this.#parts.postgres.net.engine.now;
  }

  #reply(): void {
    const { sender, data } = this;
    if (!this.#open || sender === null) return;
    const position = data.endOf(data.flushed);
    this.#back?.send(() => sender.server.process.deliver(() => sender.heard(position, position)));
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#back?.close();
    const { sender } = this;
    const { host, net } = this.#parts.postgres;
    if (sender !== null && host.up)
      net.network.send(this.node, sender.server.node, () =>
        sender.server.process.deliver(() => sender.close()),
      );
    this.#end(sender !== null);
  }

  /** A silent server is asked, and given up. */
  #watch(): void {
    this.process.after(askMs, () => {
      if (!this.#open) return;
      const silent = this.#parts.postgres.net.engine.now - this.#heardAt;
      if (silent >= silentMs) this.close();
      else {
        if (silent >= askMs) this.#ask();
        this.#watch();
      }
    });
  }

  #ask(): void {
    const { sender } = this;
    if (sender === null) return;
    const { network } = this.#parts.postgres.net;
    this.#back?.send(() =>
      sender.server.process.deliver(() =>
        network.send(sender.server.node, this.node, () => this.process.deliver(() => this.#heard())),
      ),
    );
  }
}
