import type { Log } from "../../agent/context.ts";
import { parseHistory } from "../../postgres/timelines.ts";
import { toFault } from "../../values/fault.ts";
import { formatLsn, lsnFromBytes, maxLsn } from "../../values/lsn.ts";
import { parseTimeline, type FencingToken, type Timeline } from "../../values/names.ts";
import type { WallTime } from "../../values/time.ts";
import type { OrphanRecord, SegmentRecord } from "../catalogue/records.ts";
import type { Repository } from "../repository/repository.ts";
import type { WalBooks } from "./books.ts";
import type { IndexGroups } from "./index-groups.ts";
import { segmentsPerGroup, type WalLayout } from "./layout.ts";
import { isSegmentName, parseSegmentName, segmentStart } from "./segment-name.ts";
import { unpackSegment, type SegmentNote } from "./segment-object.ts";
import { parseFence, parseGap, parseOrphan, parsePruned } from "./small-records.ts";

/** What `takeOver` fills. */
export interface Loaded {
  readonly repository: Repository;
  readonly layout: WalLayout;
  readonly books: WalBooks;
  readonly orphans: Map<string, OrphanRecord>;
  readonly index: IndexGroups;
  readonly log: Log;
  token: FencingToken | null;
}

/** Segments read at the same time when the index lacks them. */
const readAtOnce = 2;

/**
 * Brings what is in memory in step with the repository: one listing, the objects of the index that describe something new, and
 * each segment that no index describes. @throws Fault BACKUP_STORE_*, BACKUP_DAMAGED
 */
export async function takeOver(into: Loaded): Promise<void> {
  const found = await listed(into);
  for (const timeline of found.histories)
    if (!into.books.histories.has(timeline)) {
      const bytes = await readUndamaged(into, into.layout.history(timeline));
      if (bytes !== null && bytes !== "damaged")
        into.books.addHistory(timeline, parseHistory(bytes.toString("utf8")));
    }
  await takeSmallRecords(into);
  takeSegments(into, found, await notesOf(into, found));
}

interface Listing {
  readonly segments: Map<string, number>;
  readonly partials: Map<string, number>;
  readonly histories: Set<Timeline>;
  readonly index: Set<string>;
}

async function listed({ repository, layout }: Loaded): Promise<Listing> {
  const found: Listing = {
    segments: new Map(),
    partials: new Map(),
    histories: new Set(),
    index: new Set(),
  };
  for await (const { key, bytes } of repository.store.list(layout.wal)) {
    const [first = "", second] = key.slice(layout.wal.length).split("/");
    const history = /^([0-9A-F]{8})\.history$/.exec(first)?.[1];
    const timeline = history === undefined ? undefined : parseTimeline(parseInt(history, 16));
    if (timeline !== undefined) found.histories.add(timeline);
    else if (first === "index") found.index.add(key);
    else if (second !== undefined && second.startsWith(first)) {
      if (isSegmentName(second)) found.segments.set(second, bytes);
      else if (/^[0-9A-F]{24}\.partial$/.test(second)) found.partials.set(second.slice(0, 24), bytes);
    }
  }
  return found;
}

async function takeSmallRecords(into: Loaded): Promise<void> {
  const { layout, books } = into;
  const fence = await readRecord(into, layout.fence, parseFence);
  if (fence !== null) raise(into, fence);
  const pruned = await readRecord(into, layout.pruned, parsePruned);
  if (pruned !== null) for (const [timeline, lsn] of pruned) books.prunedUpTo.set(timeline, lsn);
  await takeRecords(into, layout.gaps, books.gaps, parseGap);
  await takeRecords(into, layout.orphans, into.orphans, parseOrphan);
}

async function takeRecords<R>(
  from: Loaded,
  prefix: string,
  into: Map<string, R>,
  parse: (bytes: Buffer, key: string) => R,
): Promise<void> {
  const present = new Set<string>();
  for await (const { key } of from.repository.store.list(prefix)) {
    if (!key.endsWith(".json")) continue;
    present.add(key);
    if (into.has(key)) continue;
    const record = await readRecord(from, key, parse);
    if (record !== null) into.set(key, record);
  }
  for (const key of [...into.keys()]) if (!present.has(key)) into.delete(key);
}

/** What the new segments say of themselves, from the index where it knows them. */
async function notesOf(into: Loaded, found: Listing): Promise<ReadonlyMap<string, SegmentNote | null>> {
  const { books, layout } = into;
  const size = books.segmentBytes;
  const fresh = [...found.segments.keys()].filter((name) => books.segment(name) === null);
  const notes = new Map<string, SegmentNote | null>();
  if (size !== null) {
    const groups = new Set<string>();
    for (const name of fresh) {
      const id = parseSegmentName(name, size);
      if (id !== null) groups.add(layout.indexGroup(id.timeline, id.number / segmentsPerGroup));
    }
    for (const key of groups)
      if (found.index.has(key)) for (const [name, note] of await into.index.read(key)) notes.set(name, note);
  }
  const unknown = [
    ...fresh.filter((name) => !notes.has(name)).map((name) => ({ name, key: layout.segment(name) })),
    ...[...found.partials.keys()].map((name) => ({ name, key: layout.partial(name), partial: true })),
  ];
  const next = unknown.values();
  await Promise.all(
    Array.from({ length: readAtOnce }, async () => {
      for (const { name, key, ...of } of next) {
        const object = await readUndamaged(into, key);
        if (object === null || object === "damaged") continue;
        const { bytes, note } = unpackSegment(object);
        into.books.segmentBytes ??= bytes.readUInt32LE(32);
        notes.set("partial" in of ? `${name}.partial` : name, note);
      }
    }),
  );
  return notes;
}

function takeSegments(into: Loaded, found: Listing, notes: ReadonlyMap<string, SegmentNote | null>): void {
  const { books } = into;
  const size = books.segmentBytes;
  if (size === null) return;
  for (const known of [...books.all()]) if (!found.segments.has(known.name)) books.remove(known);
  for (const [name, storedBytes] of found.segments) {
    const note = notes.get(name);
    if (note === undefined || books.segment(name) !== null) continue;
    const segment = segmentRecord(name, size, storedBytes, note);
    if (segment === null) continue;
    books.put(segment);
    if (segment.token !== null) raise(into, segment.token);
  }
  for (const timeline of books.numbers())
    for (const known of books.partials(timeline))
      if (!found.partials.has(known.name)) books.removePartial(timeline, known.name);
  for (const [name, storedBytes] of found.partials) {
    const note = notes.get(`${name}.partial`);
    const segment = note === null || note === undefined ? null : segmentRecord(name, size, storedBytes, note);
    if (segment !== null) books.putPartial(segment);
  }
}

/** A segment as the catalogue has it; null when the name is none. @param note null = the object says nothing of itself */
export function segmentRecord(
  name: string,
  segmentBytes: number,
  storedBytes: number,
  note: SegmentNote | null,
): SegmentRecord | null {
  const id = parseSegmentName(name, segmentBytes);
  if (id === null) return null;
  const startLsn = segmentStart(id.number, segmentBytes);
  return {
    name,
    timeline: id.timeline,
    startLsn,
    endLsn: note?.endLsn ?? lsnFromBytes(startLsn + BigInt(segmentBytes)),
    storedBytes,
    token: note?.token ?? null,
    source: note?.source ?? "unknown",
    commits: note?.commits ?? null,
    firstCommit: note?.commits?.first ?? null,
    lastCommit: note?.commits?.last ?? null,
    archivedAt: note?.archivedAt ?? ("1970-01-01T00:00:00.000Z" as WallTime),
  };
}

/** Whole segments that were archived before the cluster went another way. */
export function abandonedWal({ books, layout }: Pick<Loaded, "books" | "layout">): readonly OrphanRecord[] {
  return books.numbers().flatMap((timeline) => {
    const fork = books.leftAt(timeline);
    if (fork === null) return [];
    return books
      .of(timeline)
      .filter((segment) => segment.endLsn > fork)
      .map((segment) => ({
        key: layout.segment(segment.name),
        timeline,
        startLsn: maxLsn(segment.startLsn, fork),
        endLsn: segment.endLsn,
        token: segment.token,
        reason: `archived before the cluster left timeline ${timeline} at ${formatLsn(fork)}`,
        keptAt: segment.archivedAt,
      }));
  });
}

/** What a stored segment says of itself, from its record. */
export function noteOf(segment: SegmentRecord): SegmentNote {
  const { token, source, archivedAt, endLsn, commits } = segment;
  return { token, source, archivedAt, endLsn, commits };
}

/** An object; damage is told and costs this object alone: what cannot be read must not keep the rest from being archived. */
export async function readUndamaged(from: Loaded, key: string): Promise<Buffer | "damaged" | null> {
  try {
    return await from.repository.read(key);
  } catch (thrown) {
    const fault = toFault(thrown);
    if (fault.code !== "BACKUP_DAMAGED") throw thrown;
    from.log("error", "backup.wal.damaged", { key, ...fault.report() });
    return "damaged";
  }
}

async function readRecord<R>(
  from: Loaded,
  key: string,
  parse: (bytes: Buffer, key: string) => R,
): Promise<R | null> {
  const bytes = await readUndamaged(from, key);
  if (bytes === null || bytes === "damaged") return null;
  try {
    return parse(bytes, key);
  } catch (thrown) {
    from.log("error", "backup.wal.damaged", { key, ...toFault(thrown).report() });
    return null;
  }
}

function raise(into: Loaded, token: FencingToken): void {
  if (into.token === null || token > into.token) into.token = token;
}
