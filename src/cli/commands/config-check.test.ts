import { describe, expect, it } from "vitest";
import { fakeConnect, memoryIo } from "../../../test/support/cli.ts";
import { runCli } from "../run.ts";

async function run(text: string, ...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const { io, printed } = memoryIo({ readInput: () => Promise.resolve(text) });
  const code = await runCli(args, io, fakeConnect({ settings: () => Promise.resolve(settings) }));
  return { code, ...printed };
}

const settings = { stored: { ttl: "5s" }, effective: { ttl: "5s", pause: false }, version: 3 };
const nodeFile = "cluster: shop\nnode: db1\naddress: 10.0.0.11\ndata_dir: /d\ndcs: { etcd: [a:2379] }\n";

describe("config check", () => {
  it("accepts a node file and a file of settings, and tells them apart", async () => {
    expect(await run(nodeFile, "config", "check", "-")).toMatchObject({
      code: 0,
      out: "- is a valid node file.\n",
    });
    const other = await run("ttl: 3s\npause: true\n", "config", "check", "-");
    expect(other).toMatchObject({ code: 0, out: "- is a valid file of cluster settings.\n" });
  });

  it("knows a router file", async () => {
    const minimal = "cluster: shop\naddress: 10.0.0.20\ndcs: { etcd: [a:2379] }\n";
    const valid = { code: 0, out: "- is a valid router file.\n" };
    expect(await run(`${minimal}router: r1\n`, "config", "check", "-")).toMatchObject(valid);
    expect(await run(`${minimal}listeners: { primary: {} }\n`, "config", "check", "-")).toMatchObject(valid);
    const wrong = await run(
      `${minimal}router: r1\nlisteners: { primary: { path: sesion } }\n`,
      "config",
      "check",
      "-",
    );
    expect(wrong.code).toBe(1);
    expect(wrong.out).toMatch(/^-:5:\d+ +listeners\.primary\.path +.*did you mean session\?$/m);
  });

  it("reports all problems at once with their places, and ends with 1", async () => {
    const { code, out } = await run(
      `${nodeFile.replace("address", "adress")}api: { port: 99999 }\n`,
      "config",
      "check",
      "-",
    );
    expect(code).toBe(1);
    expect(out).toMatch(/^-:6:\d+ +api\.port +/m);
    expect(out).toMatch(/^-:3:1 +adress +unknown key; did you mean address\?$/m);
    expect(out).toMatch(/2 problems\. Nothing was started\.\n$/);
  });

  it("gives the same problems to programs", async () => {
    const { out } = await run("ttl: soon\n", "config", "check", "-", "--kind", "settings", "--json");
    expect(JSON.parse(out)).toMatchObject({ kind: "settings", problems: [{ line: 1, path: "ttl" }] });
  });
});

describe("config show and diff", () => {
  it("shows settings as YAML", async () => {
    expect((await run("", "config", "show", "--api", "a")).out).toBe("ttl: 5s\npause: false\n");
    expect((await run("", "config", "show", "--stored", "--api", "a")).out).toBe("ttl: 5s\n");
  });

  it("compares a file with what is set", async () => {
    expect((await run("ttl: 9s\n", "config", "diff", "-", "--api", "a")).out).toBe("- ttl: 5s\n+ ttl: 9s\n");
    expect((await run("ttl: 5\n", "config", "diff", "-", "--api", "a")).code).toBe(0);
    expect((await run("ttk: 5\n", "config", "diff", "-", "--api", "a")).code).toBe(1);
  });
});
