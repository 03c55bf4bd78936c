import type { PackKind } from "./pack.ts";
import { packKey } from "./page.ts";
import type { PackId } from "./page.ts";
import type { PackUse, SnapshotRoot } from "./root.ts";

interface Entry {
  readonly pack: PackId;
  kind: PackKind;
  used: number;
  storedBytes: number;
}

/** The packs a new snapshot uses, one object per pack, and how much of each. */
export class PackTable {
  readonly #byKey = new Map<string, Entry>();
  readonly #entries = new Map<PackId, Entry>();

  /** @param parent knows the sizes of the packs that may be taken over */
  constructor(parent: SnapshotRoot | null) {
    for (const { pack, kind, storedBytes } of parent?.packs ?? []) this.#enter(pack, kind, storedBytes);
  }

  /** The one object of this table for a pack. */
  readonly intern = (pack: PackId): PackId => {
    return (this.#byKey.get(packKey(pack)) ?? this.#enter(pack, "pages", 0)).pack;
  };

  add(pack: PackId, kind: PackKind): void {
    this.#enter(pack, kind, 0);
  }

  stored(pack: PackId, bytes: number): void {
    const entry = this.#entries.get(pack);
    if (entry !== undefined) entry.storedBytes = bytes;
  }

  use(pack: PackId, count: number): void {
    const entry = this.#entries.get(pack);
    if (entry !== undefined) entry.used += count;
  }

  used(): PackUse[] {
    return [...this.#entries.values()].filter(({ used }) => used > 0);
  }

  #enter(pack: PackId, kind: PackKind, storedBytes: number): Entry {
    const entry = { pack, kind, used: 0, storedBytes };
    this.#byKey.set(packKey(pack), entry);
    this.#entries.set(pack, entry);
    return entry;
  }
}
