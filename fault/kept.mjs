// The rounds on disk: a run that was interrupted goes on with them.
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";

/**
 * The rounds kept in a file; those of another commit or of other settings do not count.
 * @param {{commit: string, set: string[]}} of
 * @returns {import("./round.mjs").Round[]}
 */
export function loadRounds(file, of) {
  if (!existsSync(file)) return [];
  const { rounds, ...kept } = JSON.parse(readFileSync(file, "utf8"));
  return JSON.stringify(kept) === JSON.stringify(of) ? rounds : [];
}

/** Keeps them; a crash in the middle leaves the former ones. */
export function saveRounds(file, of, rounds) {
  writeFileSync(`${file}.new`, `${JSON.stringify({ ...of, rounds }, null, 1)}\n`);
  renameSync(`${file}.new`, file);
}
