import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { parseLsn } from "../../values/lsn.ts";
import type { Timeline } from "../../values/names.ts";
import { DirectoryStore } from "../repository/directory-store.ts";
import type { Repository } from "../repository/repository.ts";
import { beginsTooEarly } from "./too-early.ts";

const segmentBytes = 16_777_216;

function asked(archived: readonly string[], received: readonly string[]): (lsn: string) => Promise<boolean> {
  const root = mkdtempSync(join(tmpdir(), "pgherd-early-"));
  const wal = join(root, "clusters", "c", "wal");
  const live = join(wal, "live");
  mkdirSync(join(wal, "00000001"), { recursive: true });
  mkdirSync(live);
  for (const name of archived) writeFileSync(join(wal, "00000001", name), "");
  for (const name of received) writeFileSync(join(live, name), "");
  const repository = { store: new DirectoryStore(root) } as unknown as Repository;
  return (lsn) =>
    beginsTooEarly(
      { repository, cluster: "c", live },
      { timeline: 1 as Timeline, startLsn: parseLsn(lsn) ?? (0n as never), segmentBytes },
    );
}

it("is a backup that begins before everything of its timeline", async () => {
  const receiving = asked([], ["spare", "000000010000000000000003.partial", "00000002.history"]);
  expect(await receiving("0/2000028")).toBe(true);
  expect(await receiving("0/3000028")).toBe(false);
  const archived = asked(["000000010000000000000003"], ["000000010000000000000005.partial"]);
  expect(await archived("0/2FFFFFF")).toBe(true);
  expect(await archived("0/3000000")).toBe(false);
});

it("is none where nothing of its timeline is known yet", async () => {
  expect(await asked([], [])("0/2000028")).toBe(false);
  expect(await asked([], ["000000020000000000000003.partial"])("0/2000028")).toBe(false);
});
