import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { memoryIo } from "../../test/support/cli.ts";
import type { CliIo } from "./io.ts";
import { findCluster } from "./find-cluster.ts";
import { tokenFrom } from "./token.ts";

describe("the cluster that is meant", () => {
  let dir = "";
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "pgherd-find-"));
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  const io = (env: Readonly<Record<string, string>> = {}): CliIo =>
    memoryIo({ directory: dir, env: { XDG_STATE_HOME: dir, ...env } }).io;

  function demo(): void {
    mkdirSync(join(dir, "state"));
    writeFileSync(join(dir, "state", "secrets.json"), JSON.stringify({ api: { token: "demo-token" } }));
    const node = {
      api: "http://127.0.0.1:1234",
      config: join(dir, "node.yml"),
      state_dir: join(dir, "state"),
    };
    writeFileSync(join(dir, "demo.json"), JSON.stringify({ nodes: [node] }));
  }

  it("is a demo's with all its agents and its token", async () => {
    demo();
    const found = await findCluster({ dir: "." }, io());
    expect(found.urls).toEqual(["http://127.0.0.1:1234"]);
    expect(found.nodeFiles).toEqual([join(dir, "node.yml")]);
    expect((await found.token())?.reveal()).toBe("demo-token");
  });

  it("is the last demo's when nothing is named", async () => {
    demo();
    mkdirSync(join(dir, "pgherd"));
    writeFileSync(join(dir, "pgherd", "last-demo"), `${dir}\n`);
    expect((await findCluster({}, io())).source).toBe(`the demo in ${dir}`);
    // What is named in the environment comes first.
    expect((await findCluster({}, io({ PGHERD_API: "db1:8008" }))).urls).toEqual(["http://db1:8008"]);
  });

  it("is a node file's: its own agent, on loopback first, with the token of its secrets", async () => {
    const file = join(dir, "node.yml");
    const lines = [
      "cluster: shop",
      "node: db1",
      "address: 10.0.0.11",
      `data_dir: ${dir}/data`,
      "dcs: { etcd: [10.0.0.11:2379] }",
    ];
    writeFileSync(file, lines.join("\n"));
    mkdirSync(`${dir}/data.pgherd`);
    writeFileSync(`${dir}/data.pgherd/secrets.json`, JSON.stringify({ api: { token: "own" } }));
    const found = await findCluster({ config: "node.yml" }, io());
    expect(found.urls).toEqual(["http://127.0.0.1:8008", "http://10.0.0.11:8008"]);
    expect((await found.token())?.reveal()).toBe("own");
  });

  it("takes a given token before one that is found", async () => {
    demo();
    writeFileSync(join(dir, "token"), "from-file\n");
    const byEnvironment = await findCluster({ dir }, io({ PGHERD_TOKEN: "from-env" }));
    expect((await byEnvironment.token())?.reveal()).toBe("from-env");
    const byFile = await findCluster({ dir, tokenFile: "token" }, io({ PGHERD_TOKEN: "from-env" }));
    expect((await byFile.token())?.reveal()).toBe("from-file");
  });

  it.each([
    ["nothing is named", {}, "USAGE"],
    ["there is no demo", { dir: "nowhere" }, "NOT_FOUND"],
    ["the node file is missing", { config: "none.yml" }, "CONFIG_UNREADABLE"],
    ["two are named", { dir: ".", api: ["http://db1"] }, "USAGE"],
    ["the URL is none", { api: ["http://:x"] }, "USAGE"],
  ])("is not found when %s", async (_what, globals, code) => {
    await expect(findCluster(globals, io())).rejects.toMatchObject({ code });
  });

  it("is not found by a demo's file that is garbage", async () => {
    writeFileSync(join(dir, "demo.json"), "{");
    await expect(findCluster({ dir }, io())).rejects.toMatchObject({ code: "CONFIG_INVALID" });
    chmodSync(join(dir, "demo.json"), 0o600);
  });

  it("reads a token, and quotes no secret when there is none", () => {
    expect(tokenFrom("abc\n", "f").reveal()).toBe("abc");
    for (const text of ["", "two words", '{"api":{}}', '{"secret": oops'])
      expect(() => tokenFrom(text, "f")).toThrow(/^f holds no token$/);
  });
});
