import { parseLsn, type Lsn } from "../../values/lsn.ts";
import { parseTimeline, type Timeline } from "../../values/names.ts";
import type { WallTime } from "../../values/time.ts";

/** What a running backup server says of one cluster's receiver, as far as a restore needs it. */
export interface ServerWord {
  /** The timeline the cluster is on; null = it is not known now. */
  readonly current: Timeline | null;
  /** Until when all that was committed is there, by the server's clock; null = that is not known. */
  readonly completeUntil: WallTime | null;
  /** The WAL that was received and may not be in the archive yet; null = none. */
  readonly received: { readonly timeline: Timeline; readonly from: Lsn; readonly to: Lsn } | null;
}

export const noWord: ServerWord = { current: null, completeUntil: null, received: null };

/** Reads `GET /v1/clusters/<cluster>/status`, whose names may be in either form. */
export function wordOf(status: unknown): ServerWord {
  const receiver = field(status, "receiver");
  const timeline = parseTimeline(Number(field(receiver, "timeline")));
  const [flushed, archived] = ["flushed", "archived"].map((name) => lsnIn(field(receiver, name)));
  if (timeline === undefined || flushed === undefined) return noWord;
  const streams = field(receiver, "state") === "streaming";
  const completeUntil = field(receiver, "complete_until");
  return {
    current: streams ? timeline : null,
    completeUntil:
      typeof completeUntil === "string" && !Number.isNaN(Date.parse(completeUntil))
        ? (completeUntil as WallTime)
        : null,
    received: { timeline, from: archived ?? flushed, to: flushed },
  };
}

function field(of: unknown, name: string): unknown {
  if (typeof of !== "object" || of === null) return undefined;
  const record = of as Readonly<Record<string, unknown>>;
  return record[name] ?? record[name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())];
}

function lsnIn(value: unknown): Lsn | undefined {
  return typeof value === "string" ? parseLsn(value) : undefined;
}
