import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Files that may be longer than 400 lines, each with its reason. */
const longFiles: Readonly<Record<string, string>> = {
  "src/cluster/decide.test.ts": "one table of situations and answers, read from top to bottom",
  "src/api/patroni/routes.test.ts": "every path in every situation of a node, as one table",
  "test/integration/cluster-operations.test.ts":
    "all that an operator asks of one cluster, which costs seconds to form",
  "test/integration/backup-archive.test.ts": "what two commands do in every trouble, over one set of servers",
  "src/dcs/dcs.contract.ts": "the whole contract of the store in one place",
};

interface Tree {
  readonly files: readonly string[];
  readonly folders: readonly string[];
}

function tree(path: string): Tree {
  const entries = readdirSync(join(root, path), { withFileTypes: true });
  const below = entries.filter((entry) => entry.isDirectory()).map((entry) => tree(`${path}/${entry.name}`));
  return {
    files: [
      ...entries.filter((entry) => entry.isFile()).map((entry) => `${path}/${entry.name}`),
      ...below.flatMap((each) => each.files),
    ],
    folders: [path, ...below.flatMap((each) => each.folders)],
  };
}

function linesOf(path: string): number {
  return readFileSync(join(root, path), "utf8").trimEnd().split("\n").length;
}

const source = tree("src");
const everything = [source, tree("test"), tree("scripts")];

describe("the layout", () => {
  it("names every file and folder after its topic", () => {
    const empty = /^(index|utils?|common|helpers?|types?|lib|misc|shared)(\..*)?$/;
    const named = everything.flatMap((each) => [...each.files, ...each.folders]);
    expect(named.filter((path) => empty.test(basename(path)))).toEqual([]);
  });

  it("has a README of at most 40 lines in every part", () => {
    const parts = source.folders.filter((path) => path.split("/").length === 2);
    const wanting = parts.filter((path) => !existsSync(join(root, path, "README.md")));
    const long = parts.filter((path) => !wanting.includes(path) && linesOf(`${path}/README.md`) > 40);
    expect({ wanting, long }).toEqual({ wanting: [], long: [] });
  });

  it("keeps files below 400 lines, save those with a reason", () => {
    const code = everything.flatMap((each) => each.files).filter((path) => /\.(ts|mjs)$/.test(path));
    const tooLong = code.filter((path) => linesOf(path) > 400 && !(path in longFiles));
    expect(tooLong).toEqual([]);
  });

  it("has no re-exporting barrel files", () => {
    const barrels = source.files.filter(
      (path) => path.endsWith(".ts") && /^export \* from/m.test(readFileSync(join(root, path), "utf8")),
    );
    expect(barrels).toEqual([]);
  });
});
