import { formatLsn, type Lsn } from "../../values/lsn.ts";
import type { Timeline } from "../../values/names.ts";
import { historyFileName } from "../../postgres/timelines.ts";
import { timelineDigits } from "./segment-name.ts";

/** The keys of a cluster's WAL in the repository (docs/spec/repository.md). */
export interface WalLayout {
  readonly wal: string;
  readonly index: string;
  readonly gaps: string;
  readonly orphans: string;
  segment(name: string): string;
  partial(name: string): string;
  history(timeline: Timeline): string;
  /** The index of 256 segments. */
  indexGroup(timeline: Timeline, group: bigint): string;
  readonly fence: string;
  readonly pruned: string;
}

/** How many segments one object of the index describes. */
export const segmentsPerGroup = 256n;

export function walLayout(cluster: string): WalLayout {
  const root = `clusters/${cluster}`;
  return {
    wal: `${root}/wal/`,
    index: `${root}/wal/index/`,
    gaps: `${root}/gaps/`,
    orphans: `${root}/orphans/`,
    segment: (name) => `${root}/wal/${name.slice(0, 8)}/${name}`,
    partial: (name) => `${root}/wal/${name.slice(0, 8)}/${name}.partial`,
    history: (timeline) => `${root}/wal/${historyFileName(timeline)}`,
    indexGroup: (timeline, group) =>
      `${root}/wal/index/${timelineDigits(timeline)}/${group.toString(16).toUpperCase().padStart(14, "0")}.json`,
    fence: `${root}/wal/fence.json`,
    pruned: `${root}/wal/pruned.json`,
  };
}

/** A position as a part of a key. */
export function lsnKey(lsn: Lsn): string {
  return formatLsn(lsn)
    .split("/")
    .map((half) => half.padStart(8, "0"))
    .join("");
}
