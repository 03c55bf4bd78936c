import { Fault } from "../../values/fault.ts";
import { formatLsn } from "../../values/lsn.ts";
import { parseSystemIdentifier, type SystemIdentifier } from "../../values/names.ts";
import type { ClusterIdentity } from "../catalogue/identity.ts";
import { parseSegmentName, segmentStart, type SegmentId } from "./segment-name.ts";

/** What the first page of a segment says. */
interface SegmentHead extends SegmentId {
  readonly systemIdentifier: SystemIdentifier;
  readonly segmentBytes: number;
}

const longHeader = 40;
/** The flag of a page header that begins a segment. */
const longHeaderFlag = 0x2;

/**
 * Reads the head of a segment and checks that it is what its name says, and of this cluster.
 * @param identity null = nothing is known of the cluster yet
 * @throws Fault BACKUP_WAL_INVALID
 */
export function checkSegment(name: string, bytes: Uint8Array, identity: ClusterIdentity | null): SegmentHead {
  const invalid = (detail: string): Fault =>
    new Fault("BACKUP_WAL_INVALID", `${name} is not a WAL segment of this cluster.`, { detail });
  if (bytes.length < longHeader) throw invalid(`It has only ${bytes.length} bytes.`);
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, longHeader);
  if ((view.readUInt16LE(2) & longHeaderFlag) === 0)
    throw invalid("It does not begin with the page header of a segment.");
  const segmentBytes = view.readUInt32LE(32);
  const sizeIsOne =
    segmentBytes >= 1 << 20 && segmentBytes <= 1 << 30 && Number.isInteger(Math.log2(segmentBytes));
  if (!sizeIsOne || bytes.length > segmentBytes)
    throw invalid(`Its header names segments of ${segmentBytes} bytes, and it has ${bytes.length}.`);
  const systemIdentifier = parseSystemIdentifier(view.readBigUInt64LE(24).toString());
  const segment = parseSegmentName(name, segmentBytes);
  if (segment === null || systemIdentifier === undefined) throw invalid("Its name is none of a segment.");
  const start = segmentStart(segment.number, segmentBytes);
  const address = view.readBigUInt64LE(8);
  if (address !== start)
    throw invalid(`Its first page is of position ${formatLsn(address as typeof start)}.`);
  // The first segment of a timeline repeats pages of its parent, which carry the parent's number.
  const timeline = view.readUInt32LE(4);
  if (timeline < 1 || timeline > segment.timeline)
    throw invalid(`Its first page is of timeline ${timeline}.`);
  if (identity !== null && identity.systemIdentifier !== systemIdentifier)
    throw invalid(`It is of the system ${systemIdentifier}, the archive of ${identity.systemIdentifier}.`);
  if (identity !== null && identity.walSegmentBytes !== segmentBytes)
    throw invalid(
      `Its segments have ${segmentBytes} bytes, those of the archive ${identity.walSegmentBytes}.`,
    );
  return { ...segment, systemIdentifier, segmentBytes };
}
