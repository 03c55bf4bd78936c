/** What to do about a damaged object, in a sentence or two. `backups`: those that do not restore for it. Pure. */
export function adviceFor(key: string, backups: readonly string[]): string {
  const doomed = backups.length === 0 ? "" : `; then delete ${backups.join(", ")} (pgherd backup delete ID)`;
  if (key === "repository.json" || key === "repository-copy.json")
    return "repository.json and repository-copy.json are the same text: copy the whole one over the other.";
  if (key.startsWith("packs/"))
    return `Take a full backup, which takes over nothing (pgherd backup run --full)${doomed}.`;
  if (key.startsWith("leases/"))
    return "Delete the object if no backup is running; pgherd backup collect then frees what it held.";
  const [, , what = "", ...rest] = key.split("/");
  const name = rest.at(-1) ?? what;
  if (what === "backups") {
    if (name === "manifest" || name === "backup.json" || rest.length > 1)
      return `Take a full backup (pgherd backup run --full)${doomed}.`;
    return "Delete the object.";
  }
  if (what === "identity.json")
    return "Two clusters may share this name or this repository: give each its own. Else copy the object back from a copy of the repository.";
  if (what === "wal" && name.endsWith(".history"))
    return `Copy ${name} back: from a copy of the repository, or have a node bring it from its pg_wal. Until then take a backup (pgherd backup run): it needs no older history.`;
  if (what === "wal" && rest[0] === "live")
    return "Restart the backup server: the receiver fetches it again from a node. If no node has it any more, take a backup (pgherd backup run).";
  if (what === "wal" && /^[0-9A-F]{24}/.test(name))
    return `Copy it back from a copy of the repository, or bring it again from a pg_wal that has it. Else take a backup (pgherd backup run): restores to later states begin there${doomed}.`;
  if (what === "wal" || what === "drills" || what === "uses") return "Delete the object: it is made again.";
  return "It holds what was kept aside or is missing. Copy the object back from a copy of the repository, or delete it.";
}
