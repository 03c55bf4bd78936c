import type { FaultCode } from "../values/fault.ts";
import type { NodeProblem, NodeRecord } from "./records.ts";
import type { LocalDisk } from "./view.ts";

/** A write that takes this long is worth telling of, long before anybody acts on it. */
const reportStallMs = 3000;

const diskCodes: ReadonlySet<string> = new Set([
  "DISK_STALLED",
  "DISK_FULL",
  "DISK_READ_ONLY",
  "DISK_FAILING",
] satisfies FaultCode[]);

/** Whether a node says of itself that its disk takes no writes: it can take nothing over then. */
export function hasBadDisk(record: Pick<NodeRecord, "problem">): boolean {
  return record.problem !== null && diskCodes.has(record.problem.code);
}

/** What a person should know of the disk; null when it is well. */
export function diskProblem(disk: LocalDisk): (NodeProblem & { readonly code: FaultCode }) | null {
  const where = disk.volume === "wal" ? "WAL volume" : disk.volume === "data" ? "data volume" : "disk";
  const detail = disk.problem;
  switch (disk.kind) {
    case "unknown":
      return null;
    case "ok":
      return disk.reserve !== "freed"
        ? null
        : {
            code: "DISK_FULL",
            message: `the ${where} was full: pgherd gave up its reserve there`,
            detail,
            hint: "Make room, or enlarge it: the reserve (disk_reserve) is made again when three times its size is free.",
          };
    case "stalled":
      return disk.forMs < reportStallMs
        ? null
        : {
            code: "DISK_STALLED",
            // Without the seconds: a problem that changes its words with each round is told anew with each round.
            message: `a write to the ${where} does not end`,
            detail: null,
            hint: "Look at the storage: dmesg, iostat -x 1, the array or the volume's service.",
          };
    case "full":
      return {
        code: "DISK_FULL",
        message: `the ${where} is full`,
        detail,
        hint:
          disk.reserve === "held"
            ? "Make room, or enlarge it; pgherd's reserve is given up when PostgreSQL has to start without room."
            : "Make room, or enlarge it: pgherd holds no reserve there (any more).",
      };
    case "read-only":
      return {
        code: "DISK_READ_ONLY",
        message: `the ${where} is read-only`,
        detail,
        hint: "See dmesg for why; check the file system, then mount it writable again.",
      };
    case "failing":
      return {
        code: "DISK_FAILING",
        message: `the ${where} refuses writes`,
        detail,
        hint: "Look at the storage: dmesg, smartctl.",
      };
  }
}
