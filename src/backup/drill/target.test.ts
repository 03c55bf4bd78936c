import fc from "fast-check";
import { expect, test } from "vitest";
import type { Lsn } from "../../values/lsn.ts";
import type { BackupRecord } from "../catalogue/records.ts";
import { drawTarget } from "./target.ts";

const fraction = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

test("what is drawn lies between the end of the backup and the end of its WAL", () => {
  fc.assert(
    fc.property(
      fc.bigInt({ min: 1n, max: 1n << 60n }),
      fc.option(fc.bigInt({ min: -100n, max: 1n << 40n }), { nil: null }),
      fc.boolean(),
      fraction,
      fraction,
      (stop, length, isNewest, first, second) => {
        const backup = { id: "b", startLsn: 0n, stopLsn: stop } as unknown as BackupRecord;
        const end = length === null ? null : ((stop + length) as Lsn);
        const { target, inclusive } = drawTarget(backup, end, isNewest, [first, second]);
        if (target.kind === "lsn") {
          expect(target.lsn >= stop && end !== null && target.lsn < end).toBe(true);
          expect(inclusive).toBe(false);
        } else expect(target.kind).toBe(end !== null && end >= stop && isNewest ? "latest" : "immediate");
      },
    ),
  );
});
