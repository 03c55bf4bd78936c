import type { NodeName } from "../../../src/values/names.ts";
import type { Upstream } from "../../../src/postgres/instance.ts";
import type { SimEvent, SimProcess } from "../engine.ts";
import { Backend, type SynchronousCommit } from "./backend.ts";
import { busyMs } from "./cluster-net.ts";
import type { Postgres, StartMode } from "./postgres.ts";
import { SyncRep, loadNames } from "./sync-rep.ts";
import { WalReceiver, type WalSender } from "./streaming.ts";
import { firstByte, toLsn, toTimeline, type Commit, type DataDirectory, type WalRecord } from "./wal.ts";

/** wal_retrieve_retry_interval. */
const retryMs = 200;

/** One life of a postmaster and of what it started. */
export class Server {
  readonly postgres: Postgres;
  readonly data: DataDirectory;
  readonly pid: number;
  readonly ours: boolean;
  /** The postmaster and the processes that end with it. */
  readonly process: SimProcess;
  readonly sync: SyncRep;
  readonly backends = new Set<Backend>();
  readonly senders = new Set<WalSender>();
  role: "primary" | "standby";
  accepting = false;
  receiver: WalReceiver | null = null;
  /** What pg_last_wal_receive_lsn() says; null before the first receiver. */
  received: number | null = null;
  /** Records replayed. */
  replayed = 0;
  stopping = false;
  promoting = false;
  /** Commits up to here were made visible by crash recovery, whoever else has them; null = there was none. */
  recovered: number | null = null;
  /** The configuration as the postmaster (logins) and the startup process (upstream) have it. */
  admission: "everyone" | "replication" = "everyone";
  shownNames = "";
  #upstream: Upstream | null = null;
  #checkpointing = 0;
  #retry: SimEvent | null = null;
  #failedAt = -Infinity;
  #progress: (() => void)[] = [];

  constructor(postgres: Postgres, data: DataDirectory, pid: number, mode: StartMode) {
    this.postgres = postgres;
    this.data = data;
    this.pid = pid;
    this.ours = mode.ours;
    this.role = mode.standby ? "standby" : "primary";
    this.process = postgres.host.spawn("postgres");
    this.sync = new SyncRep(this);
    this.process.onDeath(() => {
      for (const sender of [...this.senders]) sender.close();
      this.receiver?.close();
    });
  }

  get node(): NodeName {
    return this.postgres.host.name;
  }
  /** Whether walsenders are let in: from consistency on. */
  get acceptsReplication(): boolean {
    return this.accepting && !this.stopping;
  }

  /** Recovery, then connections. */
  begin(): void {
    const { data, postgres } = this;
    const { rng, traits, observer } = postgres.net;
    const { configuration } = data;
    const clean = data.control.startsWith("shut down");
    const wasPrimary = data.control === "in production" || data.control === "shut down";
    observer.trace(this.node, () => `postgres starts as ${this.role}${clean ? "" : " with recovery"}`);
    this.admission = configuration.settings.admission;
    this.shownNames = configuration.settings.synchronousStandbyNames;
    this.sync.define(this.shownNames);
    this.#upstream = configuration.upstream;
    const [least, most] = traits.recoveryMs;
    const recoveryMs = clean ? rng.between(20, 60) : rng.magnitude(least, most);
    if (this.role === "primary") {
      data.control = clean ? data.control : "in crash recovery";
      data.standbySignal = false;
      this.process.after(recoveryMs, () => postgres.host.disk.sync(this.process, () => this.#openPrimary()));
      return;
    }
    data.tombstones.clear();
    this.replayed = Math.min(data.checkpoint, data.records.length);
    if (!clean || wasPrimary) data.control = "in archive recovery";
    // Consistency, then what is left of the WAL on disk.
    const consistentMs = recoveryMs * rng.between(0.3, 1);
    this.process.after(consistentMs, () => this.#reachConsistency(recoveryMs - consistentMs));
  }

  #openPrimary(): void {
    const { data, postgres } = this;
    if (postgres.host.disk.full) {
      this.crash(true);
      return;
    }
    if (data.control === "in crash recovery") this.recovered = data.records.length;
    this.replayed = data.records.length;
    data.flushed = data.records.length;
    data.control = "in production";
    this.#append("checkpoint", 120, null);
    data.flushed = data.records.length;
    data.checkpoint = data.records.length;
    data.controlTimeline = data.timeline;
    this.accepting = true;
    postgres.net.observer.writable(this.node, this);
    this.#checkpointLater();
  }

  #reachConsistency(leftMs: number): void {
    const { data } = this;
    if (data.records.length < data.consistent) {
      // A copy or a rewound directory: it opens when the stream has brought it there.
      this.replayed = data.records.length;
      this.#ask();
      return;
    }
    this.replayed = Math.max(this.replayed, Math.min(data.consistent, data.records.length));
    this.accepting = true;
    this.process.after(leftMs, () => {
      this.replayed = data.records.length;
      data.consistent = Math.max(data.consistent, this.replayed);
      this.#ask();
    });
  }

  /** The startup process wants WAL from its upstream. */
  #ask(): void {
    const upstream = this.#upstream;
    if (this.role !== "standby" || this.receiver !== null || this.stopping || this.promoting) return;
    if (upstream === null || !this.process.alive) return;
    this.receiver = new WalReceiver(this, upstream);
  }

  /** The stream broke: asked again at once, but not more often than wal_retrieve_retry_interval. */
  receiveAgain(): void {
    const { now } = this.postgres.net.engine;
    const wait = this.#failedAt + retryMs - now;
    this.#failedAt = now + Math.max(0, wait);
    this.receiveAfter(Math.max(wait, this.postgres.net.rng.between(2, 20)));
  }

  receiveAfter(ms: number): void {
    if (!this.process.alive || this.role !== "standby") return;
    if (this.#retry !== null) this.#retry.run = null;
    this.#retry = this.process.after(ms, () => {
      this.#retry = null;
      if (this.replayed === 0) return;
      // Between two streams the startup process reads what is in pg_wal.
      this.replay(this.data.end);
      this.#ask();
    });
  }

  /** WAL is flushed on this standby. */
  onReceived(position: number): void {
    this.received = Math.max(this.received ?? 0, position);
    for (const sender of this.senders) sender.send();
    const { replayMs } = this.postgres.net.traits;
    if (replayMs === 0) this.replay(position);
    else this.process.after(replayMs, () => this.replay(position));
  }

  /** The startup process reads pg_wal up to there. */
  replay(position: number): void {
    const { data } = this;
    if (this.role !== "standby") return;
    const count = Math.min(data.countUntil(position), data.records.length);
    for (let index = this.replayed; index < count; index += 1) {
      const { kind, timeline } = data.records[index]!;
      if (kind === "commit" || kind === "data") continue;
      data.checkpoint = index + 1; // a restartpoint
      data.controlTimeline = timeline;
      this.#forgetOld();
    }
    this.replayed = Math.max(this.replayed, count);
    data.consistent = Math.max(data.consistent, this.replayed);
    if (!this.accepting && this.replayed >= data.consistent) this.accepting = true;
  }

  /** Writes a transaction; false when the disk is full: PostgreSQL panics. */
  insert(commit: Commit, bytes: number): boolean {
    if (this.postgres.host.disk.full) {
      this.crash(true);
      return false;
    }
    if (bytes > 400) this.#append("data", bytes - 200, null);
    commit.index = this.data.records.length;
    this.#append("commit", Math.min(bytes, 200), commit);
    return true;
  }

  #append(
    kind: WalRecord["kind"],
    bytes: number,
    commit: Commit | null,
    timeline = this.data.timeline,
  ): void {
    const start = this.data.end;
    this.data.records.push({ start, end: start + Math.ceil(bytes), timeline, kind, commit });
    if (this.role === "primary") this.replayed = this.data.records.length;
  }

  /** One fsync of the WAL; everything written before it is safe when it has ended. */
  flush(process: SimProcess, done: () => void): void {
    const count = this.data.records.length;
    this.postgres.host.disk.sync(process, () => {
      this.data.flushed = Math.max(this.data.flushed, count);
      if (this.process.alive) for (const sender of this.senders) sender.send();
      done();
    });
  }

  /** The WAL writer's next turn. */
  flushLater(): void {
    this.process.after(200, () => this.flush(this.process, () => undefined));
  }

  /** A client logs in; null when it may not. */
  login(mode: SynchronousCommit): Backend | null {
    if (!this.accepting || this.stopping || this.admission !== "everyone") return null;
    const backend = new Backend(this, mode);
    this.backends.add(backend);
    this.postgres.net.observer.loggedIn(this.node, this);
    return backend;
  }

  /** The configuration was written anew: each process takes it up when it looks. */
  reload(): void {
    const { data } = this;
    this.process.after(this.#reloadMs(), () => {
      this.admission = data.configuration.settings.admission;
      this.shownNames = data.configuration.settings.synchronousStandbyNames;
    });
    this.process.after(this.#reloadMs() + busyMs(this.postgres.net), () => {
      const { upstream } = data.configuration;
      const same = JSON.stringify(upstream) === JSON.stringify(this.#upstream);
      this.#upstream = upstream;
      if (same) return;
      this.receiver?.close();
      this.receiveAfter(1);
    });
    this.#checkpointerLooks(this.#reloadMs());
    for (const sender of this.senders)
      this.process.after(this.#reloadMs(), () =>
        loadNames(sender, data.configuration.settings.synchronousStandbyNames),
      );
  }

  /** The checkpointer reads its configuration between two pieces of work, not in the midst of an fsync. */
  #checkpointerLooks(ms: number): void {
    this.process.after(ms, () => {
      const { disk } = this.postgres.host;
      if (this.#checkpointing > 0 && disk.stalled) this.#checkpointerLooks(disk.stallMs + 1);
      else this.sync.define(this.data.configuration.settings.synchronousStandbyNames);
    });
  }

  #reloadMs(): number {
    const { rng, traits } = this.postgres.net;
    return rng.chance(traits.lateReloads)
      ? rng.magnitude(1, traits.reloadMs[1])
      : rng.magnitude(0.2, traits.reloadMs[0]);
  }

  /** CHECKPOINT; the checkpointer has read its configuration before it begins one. */
  checkpoint(done: () => void): void {
    const { disk } = this.postgres.host;
    this.process.after(this.#reloadMs(), () => {
      this.sync.define(this.data.configuration.settings.synchronousStandbyNames);
      this.#checkpointing += 1;
      const fsyncs = disk.drawMs() * 3;
      this.process.after(fsyncs, () => {
        disk.sync(this.process, () => {
          this.#checkpointing -= 1;
          if (this.role === "primary") {
            this.#append("checkpoint", 120, null);
            this.data.flushed = this.data.records.length;
            this.data.checkpoint = this.data.records.length;
            this.data.controlTimeline = this.data.timeline;
            for (const sender of this.senders) sender.send();
          }
          this.#forgetOld();
          done();
        });
      });
    });
  }

  #checkpointLater(): void {
    this.process.after(this.postgres.net.traits.checkpointEveryMs, () =>
      this.checkpoint(() => this.#checkpointLater()),
    );
  }

  /** WAL that neither a slot nor the configured amount keeps is removed. */
  #forgetOld(): void {
    const { data } = this;
    let keep = data.countUntil(data.end - this.postgres.net.traits.keptBytes);
    for (const slot of data.slots.values()) keep = Math.min(keep, slot.restart);
    data.oldest = Math.max(data.oldest, Math.min(keep, data.checkpoint));
  }

  /** pg_promote(): replays what is there, takes the next free number, opens for writes. */
  promote(done: () => void): void {
    const { data, postgres } = this;
    const { rng, traits, observer } = postgres.net;
    if (this.promoting || this.role === "primary") {
      done();
      return;
    }
    this.promoting = true;
    this.receiver?.close();
    this.process.after(rng.magnitude(...traits.promotionMs), () => {
      postgres.host.disk.sync(this.process, () => {
        const number = Math.max(data.timeline, ...data.histories.keys(), ...data.tombstones) + 1;
        const forks = [
          ...(data.histories.get(data.timeline) ?? []),
          { timeline: toTimeline(data.timeline), endLsn: toLsn(data.end) },
        ];
        data.histories.set(number, forks);
        this.role = "primary";
        this.promoting = false;
        this.#append("new-timeline", 60, null, number);
        data.flushed = data.records.length;
        this.replayed = data.records.length;
        data.control = "in production";
        for (const sender of [...this.senders]) sender.close();
        observer.promoted(this.node, number, data);
        observer.writable(this.node, this);
        this.#checkpointLater();
        done();
      });
    });
  }

  /** A clean stop: sessions end, the standbys get the shutdown checkpoint, then the postmaster ends. */
  stopFast(): void {
    if (this.stopping) return;
    this.stopping = true;
    for (const backend of [...this.backends]) backend.end();
    const { disk } = this.postgres.host;
    disk.sync(this.process, () => {
      if (this.role === "standby") {
        this.receiver?.close();
        this.data.flushed = this.data.records.length;
        this.#exit("shut down in recovery");
        return;
      }
      if (!this.accepting || disk.full) {
        this.crash(true);
        return;
      }
      this.#append("shutdown", 120, null);
      this.data.flushed = this.data.records.length;
      this.data.checkpoint = this.data.records.length;
      this.data.controlTimeline = this.data.timeline;
      for (const sender of this.senders) sender.send();
      const end = this.data.end;
      const look = (): void => {
        const behind = [...this.senders].some((sender) => !sender.diverged && sender.flushed < end);
        if (!behind) this.#exit("shut down");
      };
      this.#progress.push(look);
      look();
    });
  }

  onSenderProgress(): void {
    for (const look of [...this.#progress]) look();
  }

  #exit(control: "shut down" | "shut down in recovery"): void {
    if (!this.process.alive) return;
    this.#progress = [];
    this.data.control = control;
    this.process.kill();
  }

  /** The postmaster is gone; `all`: and every process with it. */
  crash(all: boolean): void {
    this.#progress = [];
    this.process.kill();
    for (const backend of [...this.backends]) {
      if (all || !backend.busy || backend.waiting) backend.end();
      else this.postgres.orphans.add(backend);
    }
  }

  /** The position monitoring shows: of a primary what is flushed, of a standby the later of received and replayed. */
  get position(): number {
    if (this.role === "primary") return this.data.endOf(this.data.flushed);
    return Math.max(this.received ?? firstByte, this.data.endOf(this.replayed));
  }
}
