import { z } from "zod";
import { Fault } from "../../values/fault.ts";
import { damaged } from "./envelope.ts";
import type { PackKind } from "./pack.ts";
import type { PackId } from "./page.ts";
import type { MapRef } from "./file-table.ts";
import type { DirectoryEntry, SnapshotSummary } from "./repository.ts";

/** How much of a pack a snapshot uses. */
export interface PackUse {
  readonly pack: PackId;
  readonly kind: PackKind;
  /** Pages, or maps, of it that are named; one named twice counts twice. */
  readonly used: number;
  /** Bytes of its object when it was written. */
  readonly storedBytes: number;
}

/** The root of a snapshot: with it everything of the snapshot can be found. */
export interface SnapshotRoot {
  readonly id: string;
  readonly parent: string | null;
  readonly summary: SnapshotSummary;
  readonly entries: readonly DirectoryEntry[];
  readonly tables: readonly MapRef[];
  readonly packs: readonly PackUse[];
}

const count = z.int().min(0);
const packSchema = z.tuple([
  z.string().regex(/^[0-9a-f]{16}$/),
  count,
  z.enum(["pages", "maps"]),
  count,
  count,
]);
const entrySchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("directory"), path: z.string(), mode: count }),
  z.strictObject({ kind: z.literal("link"), path: z.string(), target: z.string() }),
]);
const rootSchema = z.strictObject({
  format: z.literal(1),
  id: z.string().regex(/^[0-9a-f]{16}$/),
  parent: z.string().nullable(),
  summary: z.strictObject({
    files: count,
    bytes: count,
    storedBytes: count,
    referencedBytes: count,
    newPages: count,
    pages: count,
  }),
  entries: z.array(entrySchema),
  /** [index into packs, frame] */
  tables: z.array(z.tuple([count, count])),
  packs: z.array(packSchema),
});

/** The key of a snapshot's root. */
export function rootKey(key: string): string {
  return `${key}/snapshot`;
}

/** The key of the snapshot that an object is the root of; null = it is none. */
export function rootOfKey(key: string): string | null {
  return key.startsWith("clusters/") && key.endsWith("/snapshot") ? key.slice(0, -"/snapshot".length) : null;
}

export function encodeRoot(root: SnapshotRoot): Buffer {
  const index = new Map(root.packs.map(({ pack }, at) => [pack, at]));
  const stored: z.input<typeof rootSchema> = {
    format: 1,
    id: root.id,
    parent: root.parent,
    summary: root.summary,
    entries: [...root.entries],
    tables: root.tables.map(({ pack, frame }) => [index.get(pack) ?? -1, frame]),
    packs: root.packs.map(({ pack, kind, used, storedBytes }) => [
      pack.snapshot,
      pack.number,
      kind,
      used,
      storedBytes,
    ]),
  };
  return Buffer.from(JSON.stringify(stored));
}

/** @throws Fault BACKUP_DAMAGED names the key */
export function decodeRoot(key: string, data: Buffer): SnapshotRoot {
  try {
    const { id, parent, summary, entries, tables, packs } = rootSchema.parse(JSON.parse(data.toString()));
    const uses = packs.map(([snapshot, number, kind, used, storedBytes]) => ({
      pack: { snapshot, number },
      kind,
      used,
      storedBytes,
    }));
    return {
      id,
      parent,
      summary,
      entries,
      packs: uses,
      tables: tables.map(([index, frame]) => {
        const use = uses[index];
        if (use === undefined) throw new Fault("BACKUP_DAMAGED", "a table in no pack");
        return { pack: use.pack, frame };
      }),
    };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw damaged(key, new Fault("BACKUP_DAMAGED", why, { cause: error }));
  }
}
