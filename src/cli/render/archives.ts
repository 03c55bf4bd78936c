import type { ArchiveLine } from "../../cluster/status-archives.ts";
import type { Look, Mark } from "./look.ts";
import { ageText, bytesText, epochMs } from "./quantity.ts";
import { tableLines, type Row } from "./table.ts";

/** The archives of backup servers under the table of the nodes; no lines without any. */
export function archiveTable(archives: readonly ArchiveLine[], look: Look): string[] {
  if (archives.length === 0) return [];
  const since = (at: string | null): string => {
    const then = at === null ? null : epochMs(at);
    return then === null ? "never" : `${ageText(look.nowMs - then)} ago`;
  };
  const bytes = (count: number | null): string => (count === null ? "?" : bytesText(count));
  const rows = archives.map((archive): Row => {
    const mark: Mark =
      archive.state === "unknown" ? "?" : archive.problem !== null || archive.gap !== null ? "!" : " ";
    return {
      mark,
      cells: [
        archive.name,
        archive.host,
        archive.state,
        bytes(archive.lag_bytes),
        bytes(archive.unarchived_bytes),
        archive.upstream ?? "-",
        since(archive.last_backup_at),
        since(archive.last_drill_at),
        archive.sync ? "sync" : "",
      ],
    };
  });
  return [
    "",
    ...tableLines(
      [
        { title: "archive", least: 7 },
        { title: "host", least: 10 },
        { title: "state", least: 9 },
        { title: "lag", align: "right" },
        { title: "to store", align: "right", dropOrder: 1 },
        { title: "upstream", least: 6, dropOrder: 3 },
        { title: "last backup", least: 6 },
        { title: "last proven", least: 6, dropOrder: 2 },
        { title: "tags", optional: true },
      ],
      rows,
      look,
    ),
  ];
}
