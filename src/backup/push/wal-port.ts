import type { Timeline, FencingToken } from "../../values/names.ts";
import type { FetchOptions, SegmentToStore } from "../wal/archive.ts";
import type { GapRecord } from "../catalogue/records.ts";

/** The archive as a spool uses it: in the same process, or a backup server over HTTP. */
export interface WalPort {
  /** null = not there. @throws Fault when that cannot be told */
  fetch(name: string, options: FetchOptions): Promise<Buffer | null>;
  store(segment: SegmentToStore): Promise<"stored" | "identical" | "conflict">;
  storeHistory(timeline: Timeline, text: string, token: FencingToken | null): Promise<void>;
  recordGap(gap: GapRecord): Promise<void>;
}
