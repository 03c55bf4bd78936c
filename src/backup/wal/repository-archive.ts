import { crc32 } from "node:zlib";
import { isTombstone, parseHistory } from "../../postgres/timelines.ts";
import { Fault } from "../../values/fault.ts";
import { formatLsn, lsnFromBytes, maxLsn, type Lsn } from "../../values/lsn.ts";
import type { FencingToken, Timeline } from "../../values/names.ts";
import { claimIdentity, type ClusterIdentity } from "../catalogue/identity.ts";
import type {
  CommitSummary,
  GapRecord,
  OrphanRecord,
  SegmentRecord,
  TimelineRecord,
} from "../catalogue/records.ts";
import type { FetchOptions, SegmentToStore, WalArchive, WalIsland } from "./archive.ts";
import type { WalRange } from "./coverage.ts";
import { fetchWal } from "./fetch.ts";
import { lsnKey } from "./layout.ts";
import { abandonedWal, readUndamaged, segmentRecord, takeOver, type Loaded } from "./load.ts";
import type { ArchiveOptions } from "./open-archive.ts";
import { pruneWal } from "./prune.ts";
import { readSegment } from "./read-segment.ts";
import { checkSegment } from "./segment-check.ts";
import { SegmentEnds } from "./segment-ends.ts";
import { isArchivedBeside, isSegmentName, segmentStart, timelineDigits } from "./segment-name.ts";
import { packSegment, unpackSegment, type SegmentNote } from "./segment-object.ts";
import { fenceJson, gapJson, orphanJson, parseFence } from "./small-records.ts";

/** The archive of one cluster over a repository. What is in memory answers questions; what is stored is decided by its key. */
export class RepositoryArchive implements WalArchive {
  readonly #options: ArchiveOptions;
  readonly #loaded: Loaded;
  #identity: ClusterIdentity | null;
  readonly #ends: SegmentEnds;
  /** One store of a name at a time. */
  readonly #storing = new Map<string, Promise<unknown>>();

  constructor(options: ArchiveOptions, loaded: Loaded, identity: ClusterIdentity | null) {
    this.#options = options;
    this.#loaded = loaded;
    this.#ends = new SegmentEnds(loaded);
    this.#identity = identity;
  }

  get cluster(): string {
    return this.#options.cluster;
  }

  get segmentBytes(): number | null {
    return this.#loaded.books.segmentBytes;
  }

  get token(): FencingToken | null {
    return this.#loaded.token;
  }

  store(segment: SegmentToStore): Promise<"stored" | "identical" | "conflict"> {
    const { name } = segment;
    if (isSegmentName(name) || !isArchivedBeside(name))
      return this.#oneAtATime(name, () => this.#store(segment));
    return this.#oneAtATime(name.slice(0, 24), () => this.#storeOther(segment));
  }

  storePartial(segment: SegmentToStore): Promise<void> {
    return this.#oneAtATime(segment.name, async () => {
      await this.#admit(segment);
      await this.#storePartial(segment);
    });
  }

  async storeHistory(timeline: Timeline, text: string, token: FencingToken | null): Promise<void> {
    if (isTombstone(text)) return;
    const { repository, layout, books } = this.#loaded;
    const key = layout.history(timeline);
    const there = await readUndamaged(this.#loaded, key);
    if (there === null || there === "damaged") {
      await this.#refuseStale(token, `the history of timeline ${timeline}`);
      await this.#raise(token);
      const bytes = Buffer.from(text, "utf8");
      const { outcome } = await repository.write(key, bytes, { ifAbsent: there === null });
      if (outcome === "exists") return this.storeHistory(timeline, text, token);
    } else if (there.toString("utf8") !== text) {
      throw new Fault("BACKUP_WAL_CONFLICT", `The archive has another history of timeline ${timeline}.`, {
        detail: `There: ${oneLine(there.toString("utf8"))}. Now: ${oneLine(text)}.`,
        hint: "Two primaries were promoted to the same timeline, or another cluster uses this name.",
      });
    }
    books.addHistory(timeline, parseHistory(text));
  }

  async fence(token: FencingToken): Promise<void> {
    await this.#newestToken();
    await this.#raise(token);
  }

  fetch(name: string, options: FetchOptions): Promise<Buffer | null> {
    return fetchWal(this.#loaded, this.#options.live ?? nothing, name, options);
  }

  archivedUpTo(timeline: Timeline): Lsn | null {
    return this.#loaded.books.archivedUpTo(timeline);
  }

  coverage(timeline: Timeline): readonly WalRange[] {
    return this.#loaded.books.coverage(timeline);
  }

  segments(): Iterable<SegmentRecord> {
    return this.#loaded.books.all();
  }

  partials(): Iterable<SegmentRecord> {
    const { books } = this.#loaded;
    return books.numbers().flatMap((timeline) => books.partials(timeline));
  }

  segment(name: string): SegmentRecord | null {
    return this.#loaded.books.segment(name);
  }

  timelines(): readonly TimelineRecord[] {
    return this.#loaded.books.tree();
  }

  gaps(): readonly GapRecord[] {
    return [...this.#loaded.books.gaps.values()];
  }

  orphans(): readonly OrphanRecord[] {
    return [...this.#loaded.orphans.values(), ...abandonedWal(this.#loaded)];
  }

  async recordGap(gap: GapRecord): Promise<void> {
    const { repository, layout, books } = this.#loaded;
    const key = `${layout.gaps}${timelineDigits(gap.timeline)}-${lsnKey(gap.startLsn)}-${lsnKey(gap.endLsn)}.json`;
    await repository.write(key, gapJson(gap));
    books.gaps.set(key, gap);
    this.#options.log("warn", "backup.wal.gap", {
      timeline: gap.timeline,
      start: formatLsn(gap.startLsn),
      end: formatLsn(gap.endLsn),
      reason: gap.reason,
    });
  }

  async keepOrphan(orphan: Omit<OrphanRecord, "key">, bytes: Uint8Array): Promise<OrphanRecord> {
    const { repository, layout, orphans } = this.#loaded;
    // By content: what is brought again and again is kept once.
    const sum = crc32(bytes).toString(16).padStart(8, "0");
    const base = `${layout.orphans}${timelineDigits(orphan.timeline)}-${lsnKey(orphan.startLsn)}-${sum}`;
    const known = orphans.get(`${base}.json`);
    if (known !== undefined) return known;
    const record = { ...orphan, key: `${base}.wal` };
    await repository.write(record.key, bytes);
    await repository.write(`${base}.json`, orphanJson(record));
    orphans.set(`${base}.json`, record);
    this.#options.log("warn", "backup.wal.orphan", {
      timeline: orphan.timeline,
      start: formatLsn(orphan.startLsn),
      end: formatLsn(orphan.endLsn),
      token: orphan.token,
      reason: orphan.reason,
    });
    return record;
  }

  prune(
    keepFrom: ReadonlyMap<Timeline, Lsn>,
    islands: readonly WalIsland[] = [],
  ): Promise<{ readonly segments: number; readonly bytes: number }> {
    return pruneWal(this.#loaded, keepFrom, islands);
  }

  refresh(): Promise<void> {
    return takeOver(this.#loaded);
  }

  close(): Promise<void> {
    return this.#loaded.index.settled();
  }

  async #store(segment: SegmentToStore): Promise<"stored" | "identical" | "conflict"> {
    const { books, repository, layout } = this.#loaded;
    const { name, token } = segment;
    const head = await this.#admit(segment);
    if (segment.bytes.length !== head.segmentBytes)
      throw new Fault("BACKUP_WAL_INVALID", `${name} is not a whole segment.`, {
        detail: `It has ${segment.bytes.length} bytes of ${head.segmentBytes}.`,
      });
    const key = layout.segment(name);
    const there = await readUndamaged(this.#loaded, key);
    if (there === "damaged")
      await repository.store.delete(key); // what was brought takes its place
    else if (there !== null) return this.#compare(segment, there, head);
    const start = segmentStart(head.number, head.segmentBytes);
    const endLsn = lsnFromBytes(start + BigInt(head.segmentBytes));
    const fork = books.leftAt(head.timeline);
    if (fork === null || endLsn > fork) await this.#refuseStale(token, name);
    if (fork !== null && endLsn > fork) return this.#pastFork(segment, start, endLsn, fork);
    await this.#raise(token);
    const { commits, damage } = await this.#ends.read(head, segment.bytes);
    if (damage !== null)
      throw new Fault("BACKUP_WAL_INVALID", `${name} holds damaged WAL.`, {
        detail: `At ${formatLsn(damage.lsn)}: ${damage.what}.`,
        hint: "The copy was damaged on its way, or on its server: that server's disk needs a look.",
      });
    const note = this.#note(segment, endLsn, commits);
    const object = packSegment(segment.bytes, note, segment.memory ?? null);
    this.#ends.stored(name, segment.bytes);
    // What was brought takes the place of a damaged one.
    const { outcome, storedBytes } = await repository.write(key, object, { ifAbsent: there === null });
    if (outcome === "exists") return this.#store(segment);
    const record = segmentRecord(name, head.segmentBytes, storedBytes, note);
    if (record !== null) {
      books.put(record);
      this.#loaded.index.touch(record, head.segmentBytes);
    }
    if (books.partial(head.timeline, name) !== null) {
      await repository.store.delete(layout.partial(name));
      books.removePartial(head.timeline, name);
    }
    return "stored";
  }

  /** Is it of this cluster, and is its timeline known? Learns the cluster's identity from the first one. */
  async #admit({ name, bytes }: SegmentToStore): Promise<ReturnType<typeof checkSegment>> {
    const { books, repository } = this.#loaded;
    const head = checkSegment(name, bytes, this.#identity);
    if (this.#identity === null) {
      const { systemIdentifier, segmentBytes } = head;
      this.#identity = await claimIdentity(repository, this.cluster, {
        systemIdentifier,
        walSegmentBytes: segmentBytes,
      });
      books.segmentBytes = this.#identity.walSegmentBytes;
      checkSegment(name, bytes, this.#identity);
    }
    if (head.timeline > 1 && !books.histories.has(head.timeline)) {
      // Another process may have stored it.
      const text = await repository.read(this.#loaded.layout.history(head.timeline));
      if (text === null)
        throw new Fault("BACKUP_WAL_HISTORY_MISSING", `${name} came before its timeline's history.`, {
          hint: "Its history file comes first; then it is taken.",
        });
      books.addHistory(head.timeline, parseHistory(text.toString("utf8")));
    }
    return head;
  }

  /** The same name again. */
  async #compare(
    segment: SegmentToStore,
    there: Buffer,
    head: { readonly timeline: Timeline; readonly number: bigint; readonly segmentBytes: number },
  ): Promise<"identical" | "conflict"> {
    const { books } = this.#loaded;
    const { bytes, note } = unpackSegment(there);
    if (books.segment(segment.name) === null) {
      const record = segmentRecord(segment.name, head.segmentBytes, there.length, note);
      if (record !== null) books.put(record);
    }
    if (bytes.equals(segment.bytes)) return "identical";
    const startLsn = segmentStart(head.number, head.segmentBytes);
    await this.keepOrphan(
      {
        timeline: head.timeline,
        startLsn,
        endLsn: lsnFromBytes(startLsn + BigInt(head.segmentBytes)),
        token: segment.token,
        reason: `${segment.source}: other bytes than the archived ${segment.name} (${note?.source ?? "unknown source"})`,
        keptAt: this.#options.clock.wall(),
      },
      segment.bytes,
    );
    return "conflict";
  }

  /** WAL of a timeline that the cluster left before the segment's end: what is on its line is kept as a part. */
  async #pastFork(segment: SegmentToStore, start: Lsn, endLsn: Lsn, fork: Lsn): Promise<"conflict"> {
    const { timeline } = checkSegment(segment.name, segment.bytes, this.#identity);
    if (start < fork)
      await this.#storePartial({ ...segment, bytes: segment.bytes.subarray(0, Number(fork - start)) });
    await this.keepOrphan(
      {
        timeline,
        startLsn: maxLsn(start, fork),
        endLsn,
        token: segment.token,
        reason: `${segment.source}: past ${formatLsn(fork)}, where the cluster left timeline ${timeline}`,
        keptAt: this.#options.clock.wall(),
      },
      segment.bytes,
    );
    return "conflict";
  }

  /** What PostgreSQL archives beside whole segments: the last one of a timeline, and labels of base backups. */
  async #storeOther(segment: SegmentToStore): Promise<"stored" | "conflict"> {
    const { repository, layout, books } = this.#loaded;
    if (!segment.name.endsWith(".partial")) {
      await repository.write(layout.segment(segment.name), segment.bytes);
      return "stored";
    }
    const part = { ...segment, name: segment.name.slice(0, 24) };
    const head = await this.#admit(part);
    // The file is as long as a segment: behind its WAL is what the file held before.
    const { damage } = readSegment(head, part.bytes);
    const start = segmentStart(head.number, head.segmentBytes);
    const end = damage?.lsn ?? lsnFromBytes(start + BigInt(part.bytes.length));
    const fork = books.leftAt(head.timeline);
    if (fork !== null && end > fork)
      return this.#pastFork(
        { ...part, bytes: part.bytes.subarray(0, Number(end - start)) },
        start,
        end,
        fork,
      );
    await this.#storePartial({ ...part, bytes: part.bytes.subarray(0, Number(end - start)) });
    return "stored";
  }

  async #storePartial(segment: SegmentToStore): Promise<void> {
    const { books, repository, layout } = this.#loaded;
    const { name, bytes } = segment;
    if ((await repository.store.stat(layout.segment(name))) !== null) return; // the whole one is there
    const head = checkSegment(name, bytes, this.#identity);
    const there = await readUndamaged(this.#loaded, layout.partial(name));
    const before = there === null || there === "damaged" ? null : unpackSegment(there).bytes;
    if (before !== null && before.length >= bytes.length) return;
    await this.#raise(segment.token);
    const end = lsnFromBytes(segmentStart(head.number, head.segmentBytes) + BigInt(bytes.length));
    const note = this.#note(segment, end, (await this.#ends.read(head, bytes)).commits);
    const { storedBytes } = await repository.write(layout.partial(name), packSegment(bytes, note));
    const record = segmentRecord(name, head.segmentBytes, storedBytes, note);
    if (record !== null) books.putPartial(record);
  }

  #note({ token, source }: SegmentToStore, endLsn: Lsn, commits: CommitSummary): SegmentNote {
    return { token, source, archivedAt: this.#options.clock.wall(), endLsn, commits };
  }

  /** @throws Fault BACKUP_WAL_STALE */
  async #refuseStale(token: FencingToken | null, what: string): Promise<void> {
    const newest = token === null ? null : await this.#newestToken();
    if (token === null || newest === null || token >= newest) return;
    throw new Fault("BACKUP_WAL_STALE", `${what} comes from a primary that was replaced.`, {
      detail: `It carries token ${token}; the archive has taken ${newest}.`,
      hint: "Its host follows the new primary; what it wrote meanwhile is kept when it rejoins.",
    });
  }

  /** The highest token, other processes' writes too. */
  async #newestToken(): Promise<FencingToken | null> {
    const { layout } = this.#loaded;
    const bytes = await readUndamaged(this.#loaded, layout.fence);
    const stored = bytes === null || bytes === "damaged" ? null : parseFence(bytes, layout.fence);
    if (stored !== null && (this.token === null || stored > this.token)) this.#loaded.token = stored;
    return this.token;
  }

  async #raise(token: FencingToken | null): Promise<void> {
    if (token === null || (this.token !== null && token <= this.token)) return;
    const { repository, layout } = this.#loaded;
    await repository.write(layout.fence, fenceJson(token));
    this.#loaded.token = token;
  }

  async #oneAtATime<T>(name: string, work: () => Promise<T>): Promise<T> {
    const before = this.#storing.get(name);
    const mine = (before ?? Promise.resolve()).then(work, work);
    this.#storing.set(name, mine);
    try {
      return await mine;
    } finally {
      if (this.#storing.get(name) === mine) this.#storing.delete(name);
    }
  }
}

const nothing = (): Promise<null> => Promise.resolve(null);

function oneLine(text: string): string {
  return text.trim().replaceAll(/\s+/g, " ").slice(0, 200);
}
