import { noArchive, type ArchivePort } from "../../../src/agent/archive-port.ts";
import { parseHistoryName, parseSegmentName, segmentStart } from "../../../src/backup/wal/segment-name.ts";
import type { WalFile } from "../../../src/postgres/instance.ts";
import { parseHistory } from "../../../src/postgres/timelines.ts";
import { Fault } from "../../../src/values/fault.ts";
import { formatLsn } from "../../../src/values/lsn.ts";
import type { SimProcess } from "../engine.ts";
import type { Host } from "../host.ts";
import type { Network } from "../network.ts";
import { segmentBytes, type DataDirectory, type WalRecord } from "../postgres/wal.ts";
import type { SimArchive } from "./archive.ts";

/** How long an agent waits for a file. */
const fetchMs = 3000;

/** Records of the model, beginning at one place. */
interface Stretch {
  readonly from: number;
  readonly records: readonly WalRecord[];
}

/** What the bytes of a segment stand for. */
const contents = new WeakMap<Buffer, Stretch>();

/** How an agent reaches the WAL of a backup server. */
export function simulatedArchivePort(
  {
    host,
    network,
    process,
  }: { readonly host: Host; readonly network: Network; readonly process: SimProcess },
  find: (name: string) => SimArchive | undefined,
): ArchivePort {
  return {
    ...noArchive,
    fetch: ({ name }, file) =>
      new Promise((resolve, reject) => {
        const limit = host
          .timers(process)
          .after(fetchMs, () => reject(new Fault("BACKUP_STORE_UNREACHABLE", `${name} does not answer`)));
        network.send(host.name, name, () => {
          const there = find(name);
          there?.agent?.deliver(() => {
            const bytes = there.postgres.data === null ? null : fileOf(there.postgres.data, file);
            network.send(name, host.name, () =>
              process.deliver(() => {
                limit.cancel();
                resolve(bytes);
              }),
            );
          });
        });
      }),
  };
}

/** A segment or history file of what is durable there; null = it is not there. */
function fileOf(data: DataDirectory, name: string): Buffer | null {
  const timeline = parseHistoryName(name);
  if (timeline !== null) {
    const forks = data.histories.get(timeline);
    const lines = forks?.map((fork) => `${fork.timeline}\t${formatLsn(fork.endLsn)}\tsimulated\n`);
    return lines === undefined ? null : Buffer.from(lines.join("\n"));
  }
  const segment = parseSegmentName(name, segmentBytes);
  if (segment === null) return null;
  const line = [...(data.histories.get(data.timeline) ?? []).map((fork) => fork.timeline), data.timeline];
  const start = Number(segmentStart(segment.number, segmentBytes));
  const from = data.countUntil(start);
  const to = Math.min(data.flushed, data.countUntil(start + segmentBytes) + 1);
  if (!line.includes(segment.timeline) || from < data.oldest || from >= to) return null;
  const bytes = Buffer.alloc(1);
  contents.set(bytes, { from, records: data.records.slice(from, to) });
  return bytes;
}

/** Adds a file to a data directory that nothing else is received into (PostgresInstance.takeWal). */
export function placeFile(data: DataDirectory, { name, bytes }: WalFile): void {
  const timeline = parseHistoryName(name);
  if (timeline !== null) {
    data.histories.set(timeline, parseHistory(bytes.toString("utf8")));
    return;
  }
  const stretch = contents.get(bytes);
  const segment = parseSegmentName(name, segmentBytes);
  if (stretch === undefined || segment === null)
    throw new Fault("BACKUP_WAL_INVALID", `${name} is not a WAL segment`);
  const end = Number(segmentStart(segment.number + 1n, segmentBytes));
  for (const [offset, record] of stretch.records.entries()) {
    const here = data.records[stretch.from + offset];
    if (here === record) continue;
    if (here !== undefined || stretch.from + offset > data.records.length)
      throw new Fault("BACKUP_WAL_CONFLICT", `The archive's ${name} does not continue what is here`);
    // What runs over the end of the segment is whole with the next one.
    if (record.end <= end) data.records.push(record);
  }
}
