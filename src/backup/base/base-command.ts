/** What a base backup is asked for. */
export interface BaseCommandOptions {
  /** Such as 150018. */
  readonly serverVersion: number;
  /** What `backup_label` calls it. */
  readonly label: string;
  readonly checkpoint: "fast" | "spread";
}

/**
 * The replication command that begins a base backup: without WAL (the archive has it), the links of tablespaces as links, a
 * manifest with CRC-32C, and the server's own check of every page.
 */
export function baseCommand({ serverVersion, label, checkpoint }: BaseCommandOptions): string {
  const name = `'${label.replaceAll("'", "''")}'`;
  if (serverVersion < 150_000) {
    const fast = checkpoint === "fast" ? " FAST" : "";
    // NOWAIT: whether the WAL is archived is seen in the archive itself.
    return `BASE_BACKUP LABEL ${name} PROGRESS${fast} NOWAIT MANIFEST 'yes' MANIFEST_CHECKSUMS 'CRC32C'`;
  }
  return (
    `BASE_BACKUP (LABEL ${name}, PROGRESS, CHECKPOINT '${checkpoint}', WAIT 0, ` +
    `MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C', TARGET 'client')`
  );
}
