import type { Lsn } from "../../values/lsn.ts";
import type { SnapshotReader } from "../repository/repository.ts";
import { PageCheck } from "./page-check.ts";

/** What a server said of damaged pages that it copied. */
export interface DamageNotice {
  readonly startLsn: Lsn;
  /** Its warnings, in whatever language. */
  readonly notices: readonly string[];
}

/** Where the damage is, as far as it was looked for. */
export interface Damage {
  readonly corruptPages: number;
  /** Such as `base/5/16384 block 3`. */
  readonly corruptExamples: readonly string[];
}

export const noDamage: Damage = { corruptPages: 0, corruptExamples: [] };
const corruptNamed = 10;

/**
 * Looks for the damaged pages in what was stored. That there are some is the server's word; where, our own look says: in the files
 * its warnings name, whose paths are the same in every language, else in all.
 * @throws Fault BACKUP_DAMAGED, BACKUP_STORE_*
 */
export async function findDamage(
  snapshot: SnapshotReader,
  { startLsn, notices }: DamageNotice,
  signal: AbortSignal,
): Promise<Damage> {
  const named: string[] = [];
  const others: string[] = [];
  for await (const { path } of snapshot.files())
    (notices.some((text) => text.includes(path)) ? named : others).push(path);
  const check = new PageCheck(startLsn);
  for (const path of named.length > 0 ? named : others) {
    if (!check.begin(path)) continue;
    for await (const bytes of snapshot.readFile(path)) {
      signal.throwIfAborted();
      check.write(bytes);
    }
  }
  const found = check.suspects;
  const count = found.reduce((sum, { count: pages }) => sum + pages, 0);
  const examples = found.flatMap(({ path, blocks }) => blocks.map((block) => `${path} block ${block}`));
  return { corruptPages: Math.max(1, count), corruptExamples: examples.slice(0, corruptNamed) };
}
