import { readdir } from "node:fs/promises";
import { isAbsolute, join, resolve } from "node:path";
import { realPath } from "../../postgres/processes.ts";
import { Fault } from "../../values/fault.ts";
import type { TablespaceRecord } from "../catalogue/records.ts";
import { tablespaceLinks } from "./destination.ts";

/** Where tablespaces are to go. */
export interface TablespacePlaces {
  /** By number or by their place in the backup. */
  readonly each: ReadonlyMap<string, string>;
  /** All others below this directory, by their numbers; null = where they were. */
  readonly below: string | null;
}

/**
 * The place of each tablespace, by its number. A place must be empty, or already be that of the same tablespace of the same
 * data directory.
 * @throws Fault REQUEST_INVALID, BACKUP_TARGET_IN_USE
 */
export async function placeTablespaces(
  dir: string,
  records: readonly TablespaceRecord[],
  places: TablespacePlaces,
): Promise<ReadonlyMap<number, string>> {
  const used = new Set<string>();
  for (const key of places.each.keys())
    if (!records.some((record) => key === String(record.oid) || key === record.location))
      throw new Fault("REQUEST_INVALID", `The backup has no tablespace ${key}`, {
        detail:
          records.length === 0
            ? "It has none."
            : `It has ${records.map((record) => `${record.oid} (${record.location})`).join(", ")}.`,
      });
  const links = await tablespaceLinks(dir);
  const result = new Map<number, string>();
  for (const record of records) {
    const given = places.each.get(String(record.oid)) ?? places.each.get(record.location);
    const place = given ?? (places.below === null ? record.location : join(places.below, String(record.oid)));
    if (!isAbsolute(place))
      throw new Fault(
        "REQUEST_INVALID",
        `The place of tablespace ${record.oid} is not an absolute path: ${place}`,
      );
    const real = realPath(resolve(place));
    const entries = (await readdir(place).catch(() => [])).filter((name) => name !== "lost+found");
    const own = links.get(record.oid);
    if (used.has(real) || (entries.length > 0 && (own === undefined || realPath(own) !== real)))
      throw new Fault("BACKUP_TARGET_IN_USE", `${place} is not free for tablespace ${record.oid}`, {
        detail: used.has(real)
          ? "Another tablespace goes there."
          : `It holds ${entries.slice(0, 3).join(", ")}${entries.length > 3 ? ", ..." : ""}.`,
        hint: `Name another place: --tablespace ${record.oid}=DIR, or --tablespaces DIR for all of them.`,
      });
    used.add(real);
    result.set(record.oid, place);
  }
  return result;
}
