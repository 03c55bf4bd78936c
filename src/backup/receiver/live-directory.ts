import { access, mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import type { BackupSettings } from "../../config/backup-config.ts";
import { hasErrno, readIfPresent, syncDirectory, writeDurably } from "../../postgres/durable-file.ts";
import { historyFileName, parseHistory } from "../../postgres/timelines.ts";
import type { TimelineFork } from "../../postgres/instance.ts";
import type { Timeline } from "../../values/names.ts";
import { isSegmentName, parseHistoryName } from "../wal/segment-name.ts";

/** Behind the name of a segment that is being received: full length, zeros where nothing came yet. */
const partialEnding = ".partial";
/** A file of zeros that becomes the next segment. */
const spareName = "spare";

/**
 * Where a cluster's received WAL is until the archive has it: in a repository that is a directory, with the repository, so that
 * who has that has every acknowledged commit; else in the state directory.
 */
export function liveDirectory(settings: BackupSettings, cluster: string): string {
  const { place } = settings.repository;
  return place.kind === "directory"
    ? join(place.path, "clusters", cluster, "wal", "live")
    : join(settings.stateDir, "live", cluster);
}

/** What was received of a segment, whole or with zeros behind it; also while a receiver writes it. null = nothing. */
export async function readLive(directory: string, name: string): Promise<Buffer | null> {
  // It may become whole between two looks.
  for (const file of [name, name + partialEnding, name]) {
    try {
      return await readFile(join(directory, file));
    } catch (thrown) {
      if (!hasErrno(thrown, "ENOENT") && !hasErrno(thrown, "ENOTDIR")) throw thrown;
    }
  }
  return null;
}

export interface LiveFiles {
  /** Names of whole segments and of segments being received, ascending. */
  readonly whole: readonly string[];
  readonly partial: readonly string[];
  readonly histories: readonly Timeline[];
}

/** The directory of received WAL, as its one writer uses it. */
export class LiveDirectory {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async open(path: string): Promise<LiveDirectory> {
    await mkdir(path, { recursive: true, mode: 0o700 });
    await rm(join(path, spareName), { force: true });
    return new LiveDirectory(path);
  }

  async list(): Promise<LiveFiles> {
    const names = (await readdir(this.path)).sort();
    return {
      whole: names.filter(isSegmentName),
      partial: names
        .filter((name) => name.endsWith(partialEnding))
        .map((name) => name.slice(0, -partialEnding.length))
        .filter(isSegmentName),
      histories: names.map(parseHistoryName).filter((timeline) => timeline !== null),
    };
  }

  wholePath(name: string): string {
    return join(this.path, name);
  }

  partialPath(name: string): string {
    return join(this.path, name + partialEnding);
  }

  get sparePath(): string {
    return join(this.path, spareName);
  }

  historyPath(timeline: Timeline): string {
    return join(this.path, historyFileName(timeline));
  }

  /** The segment is whole: durable under its own name when this resolves. */
  async finish(name: string): Promise<string> {
    await rename(this.partialPath(name), this.wholePath(name));
    await syncDirectory(this.path);
    return this.wholePath(name);
  }

  /** The file of zeros becomes the segment to receive next. */
  async useSpare(name: string): Promise<void> {
    await rename(this.sparePath, this.partialPath(name));
    await syncDirectory(this.path);
  }

  async sync(): Promise<void> {
    await syncDirectory(this.path);
  }

  /** Puts the part of a segment aside that is on no line of the cluster. */
  async setAside(name: string, id: string): Promise<void> {
    await rename(this.partialPath(name), this.asidePath(id));
    await syncDirectory(this.path);
  }

  async hasAside(id: string): Promise<boolean> {
    return access(this.asidePath(id)).then(
      () => true,
      (thrown: unknown) => {
        if (hasErrno(thrown, "ENOENT")) return false;
        throw thrown;
      },
    );
  }

  asidePath(id: string): string {
    return join(this.path, `aside-${id}`);
  }

  async remove(path: string): Promise<void> {
    await rm(path, { force: true });
  }

  async storeHistory(timeline: Timeline, text: string): Promise<string> {
    const path = this.historyPath(timeline);
    if ((await readIfPresent(path)) !== text) await writeDurably(path, text);
    return path;
  }

  /** The way to a timeline; null = its history is not here. */
  async forks(timeline: Timeline): Promise<readonly TimelineFork[] | null> {
    if (timeline === 1) return [];
    const text = await readIfPresent(this.historyPath(timeline));
    return text === null ? null : parseHistory(text);
  }
}
