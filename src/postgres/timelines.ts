import { readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseLsn } from "../values/lsn.ts";
import { parseTimeline, type Timeline } from "../values/names.ts";
import { readIfPresent, syncDirectory, writeDurably } from "./durable-file.ts";
import type { TimelineFork } from "./instance.ts";

/**
 * The first line of a tombstone: a history file for a number that was reserved but never promoted to. PostgreSQL takes
 * the next number for which no history file exists, so that a gap would make it take a number reserved before (F5).
 */
const tombstoneText = "# pgherd: number reserved, never used\n";

/** The name of a timeline's history file. */
export function historyFileName(timeline: Timeline): string {
  return `${timeline.toString(16).toUpperCase().padStart(8, "0")}.history`;
}

/** Whether this text of a history file is only a tombstone. */
export function isTombstone(text: string): boolean {
  return text.startsWith(tombstoneText.trimEnd());
}

/** Reads a history file: the timelines that led there, oldest first. */
export function parseHistory(text: string): readonly TimelineFork[] {
  const forks: TimelineFork[] = [];
  for (const line of text.split("\n")) {
    const match = /^\s*([0-9]+)\s+([0-9A-Fa-f]+\/[0-9A-Fa-f]+)/.exec(line);
    const timeline = match?.[1] === undefined ? undefined : parseTimeline(Number(match[1]));
    const endLsn = match?.[2] === undefined ? undefined : parseLsn(match[2]);
    if (timeline !== undefined && endLsn !== undefined) forks.push({ timeline, endLsn });
  }
  return forks;
}

/** The forks on the way to a timeline from the files of a pg_wal; null when its file is missing or a tombstone. */
export async function readForks(walDir: string, timeline: Timeline): Promise<readonly TimelineFork[] | null> {
  if (timeline === 1) return [];
  const text = await readIfPresent(join(walDir, historyFileName(timeline)));
  return text === null || isTombstone(text) ? null : parseHistory(text);
}

/** The numbers of all history files, ascending, and whether each is a tombstone. */
export async function historyFiles(
  walDir: string,
): Promise<readonly { readonly timeline: Timeline; readonly tombstone: boolean }[]> {
  const found = [];
  for (const name of (await readdir(walDir)).sort()) {
    const match = /^([0-9A-F]{8})\.history$/.exec(name);
    const timeline = match?.[1] === undefined ? undefined : parseTimeline(parseInt(match[1], 16));
    if (timeline === undefined) continue;
    const text = await readIfPresent(join(walDir, name));
    found.push({ timeline, tombstone: text !== null && isTombstone(text) });
  }
  return found;
}

/** Writes a tombstone for every number below `next` that has no history file, durably; they leave no gap (F5). */
export async function writeTombstones(walDir: string, next: Timeline): Promise<void> {
  const present = new Set((await historyFiles(walDir)).map((file) => file.timeline));
  let written = false;
  for (let number = 2; number < next; number += 1) {
    const timeline = number as Timeline;
    if (present.has(timeline)) continue;
    await writeFile(join(walDir, historyFileName(timeline)), tombstoneText, { mode: 0o600, flush: true });
    written = true;
  }
  if (written) await syncDirectory(walDir);
}

/**
 * Removes tombstones newer than the newest real history file. Before a start as standby: PostgreSQL follows the newest
 * file it finds, and a tombstone there ends the start with "not a child of this server's history".
 */
export async function removeNewestTombstones(walDir: string): Promise<void> {
  const files = await historyFiles(walDir);
  const newestReal = Math.max(1, ...files.filter((file) => !file.tombstone).map((file) => file.timeline));
  const doomed = files.filter((file) => file.tombstone && file.timeline > newestReal);
  for (const file of doomed) await rm(join(walDir, historyFileName(file.timeline)));
  if (doomed.length > 0) await syncDirectory(walDir);
}

/** Stores the text of a history file got from elsewhere; an existing real one is left alone. */
export async function storeHistory(walDir: string, timeline: Timeline, text: string): Promise<void> {
  if ((await readForks(walDir, timeline)) !== null) return;
  await writeDurably(join(walDir, historyFileName(timeline)), text);
}
