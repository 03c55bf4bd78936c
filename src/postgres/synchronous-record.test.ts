import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { systemClock } from "../system/clock.ts";
import { systemTimers } from "../system/timers.ts";
import type { NodeName } from "../values/names.ts";
import { Secret } from "../values/secret.ts";
import { installation, type Installation } from "./options.ts";
import { doubtSynchronous, noteSynchronous, provenSynchronous } from "./synchronous-record.ts";

const role = { user: "u", password: new Secret("p") };
const postmaster = { pid: 4711, startTicks: 99 };
const one = 'ANY 1 ("a")';
const two = 'ANY 2 ("a", "b")';

describe("what is proven of the names inside a server", () => {
  let dir: string;
  let at: Installation;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "pgherd-synchronous-"));
    at = installation({
      dataDir: join(dir, "data"),
      stateDir: dir,
      binDir: "/b",
      port: 5432,
      listenAddresses: "*",
      socketDir: "/run",
      node: "n1" as NodeName,
      clusterName: "c",
      secrets: () => ({ superuser: role, replication: role, rewind: role }),
      clock: systemClock,
      timers: systemTimers,
      log: () => undefined,
    });
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  test("is nothing without a note, or after one that was torn", async () => {
    const nothing = { names: null, waits: false };
    expect(await provenSynchronous(at, postmaster)).toEqual(nothing);
    writeFileSync(at.files.synchronous, '{"pid":47');
    expect(await provenSynchronous(at, postmaster)).toEqual(nothing);
  });

  test("holds for the very server it was noted of", async () => {
    await noteSynchronous(at, postmaster, one);
    expect(await provenSynchronous(at, postmaster)).toEqual({ names: one, waits: true });
    expect(await provenSynchronous(at, { ...postmaster, startTicks: 100 })).toEqual({
      names: null,
      waits: false,
    });
  });

  test("once other names are written no walsender is known to have either; the flag stays from names to names", async () => {
    await noteSynchronous(at, postmaster, one);
    await doubtSynchronous(at, one);
    expect(await provenSynchronous(at, postmaster)).toEqual({ names: one, waits: true });
    await doubtSynchronous(at, two);
    expect(await provenSynchronous(at, postmaster)).toEqual({ names: null, waits: true });
    await doubtSynchronous(at, one);
    expect(await provenSynchronous(at, postmaster)).toEqual({ names: null, waits: true });
  });

  test("once no names were written the flag may be gone, whatever is written after", async () => {
    await noteSynchronous(at, postmaster, one);
    await doubtSynchronous(at, "");
    await doubtSynchronous(at, one);
    expect(await provenSynchronous(at, postmaster)).toEqual({ names: null, waits: false });
  });
});
