import { mkdirSync, mkdtempSync, realpathSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { allowedWish, type RestorePlaces } from "./restore-places.ts";
import type { RestoreWish } from "./restore-port.ts";

const host = realpathSync(mkdtempSync(join(tmpdir(), "pgherd-places-")));
const dataDir = join(host, "allowed", "main");
mkdirSync(join(dataDir, "base"), { recursive: true });
mkdirSync(join(host, "etc"));
symlinkSync(join(host, "etc"), join(host, "allowed", "link"));
symlinkSync(dataDir, join(host, "allowed", "other"));

const places: RestorePlaces = {
  node: "db1",
  dataDir,
  stateDir: join(host, "state"),
  below: join(host, "allowed"),
};
const wish: RestoreWish = {
  backup: null,
  target: { kind: "latest" },
  inclusive: true,
  timeline: null,
  dir: join(host, "allowed", "restored"),
  tablespaces: {},
  tablespacesBelow: null,
  delta: false,
  verify: false,
  jobs: 4,
  start: null,
};
const to = (dir: string): RestoreWish => allowedWish({ ...wish, dir }, places);

describe("where an agent restores to when somebody asks it", () => {
  it("is below the directory its node file names, tablespaces beside it", () => {
    expect(to(join(host, "allowed", "a", "..", "b"))).toMatchObject({
      dir: join(host, "allowed", "b"),
      tablespacesBelow: join(host, "allowed", "b-tablespaces"),
    });
  });

  it("is nowhere when it names none", () => {
    expect(() => allowedWish(wish, { ...places, below: null })).toThrow(/restores to no directory/);
  });

  it.each([
    ["the directory itself", join(host, "allowed")],
    ["another", join(host, "etc", "x")],
    ["one whose name begins alike", join(host, "allowed-too", "x")],
    ["one above", `${host}/allowed/../etc/x`],
    ["where a link leads", join(host, "allowed", "link", "x")],
  ])("is not %s", (_, dir) => {
    expect(() => to(dir)).toThrow(expect.objectContaining({ code: "REQUEST_INVALID" }));
  });

  it.each([
    ["the data directory", dataDir],
    ["a place in it", join(dataDir, "base")],
    ["a link to it", join(host, "allowed", "other")],
    ["what is prepared for it", `${dataDir}.new`],
    ["what was set aside", `${dataDir}.retired-1`],
  ])("is not the node's own: %s", (_, dir) => {
    expect(() => to(dir)).toThrow(expect.objectContaining({ code: "BACKUP_TARGET_IN_USE" }));
  });

  it("holds for tablespaces too", () => {
    const outside = join(host, "etc", "ts");
    expect(() => allowedWish({ ...wish, tablespaces: { 16420: outside } }, places)).toThrow(
      /does not restore/,
    );
    expect(() => allowedWish({ ...wish, tablespacesBelow: outside }, places)).toThrow(/does not restore/);
  });
});
