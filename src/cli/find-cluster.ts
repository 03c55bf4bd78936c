import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { Fault } from "../values/fault.ts";
import { Secret } from "../values/secret.ts";
import { tokenFrom } from "./token.ts";
import type { GlobalOptions } from "./context.ts";
import type { CliIo } from "./io.ts";

/** Where the agents of a cluster answer, and what opens them. */
export interface ClusterLocation {
  /** How it was found, for messages: `--api`, `--config /etc/...`. */
  readonly source: string;
  readonly urls: readonly string[];
  /** File of certificate authorities for https; null = the system's. */
  readonly caFile: string | null;
  /** Node files on this host that belong to it. */
  readonly nodeFiles: readonly string[];
  /** The token for writes, read when first needed; null when none is to be found. @throws Fault CONFIG_UNREADABLE */
  token(): Promise<Secret | null>;
}

/**
 * Finds the cluster: --api, --config and --dir name it (one of them), else PGHERD_API, else the last demo.
 * @throws Fault USAGE, NOT_FOUND, CONFIG_UNREADABLE, CONFIG_INVALID
 */
export async function findCluster(globals: GlobalOptions, io: CliIo): Promise<ClusterLocation> {
  const given = [
    globals.api === undefined ? null : "--api",
    globals.config === undefined ? null : "--config",
    globals.dir === undefined ? null : "--dir",
  ].filter((name) => name !== null);
  if (given.length > 1)
    throw new Fault("USAGE", `${given.join(" and ")} name a cluster each`, { hint: "Give one of them." });
  if (globals.api !== undefined) return fromUrls(globals.api, "--api", globals, io);
  if (globals.config !== undefined) return fromNodeFile(resolve(io.directory, globals.config), globals, io);
  if (globals.dir !== undefined) return fromDemo(resolve(io.directory, globals.dir), globals, io);
  const fromEnv = (io.env["PGHERD_API"] ?? "").split(/[\s,]+/).filter((url) => url !== "");
  if (fromEnv.length > 0) return fromUrls(fromEnv, "PGHERD_API", globals, io);
  const { lastDemoDir } = await import("../demo/pointer.ts");
  const last = await lastDemoDir(io.env);
  if (last !== null) return fromDemo(last, globals, io);
  throw new Fault("USAGE", "No cluster was named and no demo was started", {
    hint: "Give --config FILE, --api URL or --dir DIR, set PGHERD_API, or start a demo: pgherd demo up",
  });
}

function fromUrls(
  urls: readonly string[],
  source: string,
  globals: GlobalOptions,
  io: CliIo,
): ClusterLocation {
  return {
    source,
    urls: urls.map((url) => checkedUrl(url, source)),
    caFile: globals.caFile === undefined ? null : resolve(io.directory, globals.caFile),
    nodeFiles: [],
    token: () => givenToken(globals, io),
  };
}

/** `10.0.0.11:8008` counts as http. */
function checkedUrl(text: string, source: string): string {
  const address = /^https?:\/\//.test(text) ? text : `http://${text}`;
  if (!URL.canParse(address))
    throw new Fault("USAGE", `${source}: ${text} is not a URL`, {
      hint: "For example http://10.0.0.11:8008",
    });
  return new URL(address).href.replace(/\/$/, "");
}

async function fromNodeFile(file: string, globals: GlobalOptions, io: CliIo): Promise<ClusterLocation> {
  const { readNodeAccess, readTokenFile } = await import("./node-access.ts");
  const access = await readNodeAccess(file, io.env);
  return {
    source: `--config ${file}`,
    urls: access.urls,
    caFile: globals.caFile === undefined ? access.caFile : resolve(io.directory, globals.caFile),
    nodeFiles: [file],
    token: async () => (await givenToken(globals, io)) ?? (await readTokenFile(access.config.api.tokenFile)),
  };
}

/** The parts of DIR/demo.json that lead to a cluster (src/demo/demo-file.ts has all of it, and costs more to load). */
interface DemoFile {
  readonly nodes: readonly { readonly api: string; readonly config: string; readonly state_dir: string }[];
}

async function fromDemo(dir: string, globals: GlobalOptions, io: CliIo): Promise<ClusterLocation> {
  const demo = await readDemo(`${dir}/demo.json`);
  return {
    source: `the demo in ${dir}`,
    urls: demo.nodes.map((node) => checkedUrl(node.api, "demo.json")),
    caFile: globals.caFile === undefined ? null : resolve(io.directory, globals.caFile),
    nodeFiles: demo.nodes.map((node) => node.config),
    token: async () => {
      const given = await givenToken(globals, io);
      if (given !== null) return given;
      const { readTokenFile } = await import("./node-access.ts");
      // All nodes have the same; one that has not started yet has none.
      for (const node of demo.nodes) {
        const token = await readTokenFile(`${node.state_dir}/secrets.json`);
        if (token !== null) return token;
      }
      return null;
    },
  };
}

async function readDemo(file: string): Promise<DemoFile> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (thrown) {
    const denied = (thrown as NodeJS.ErrnoException).code === "EACCES";
    throw new Fault(denied ? "CONFIG_UNREADABLE" : "NOT_FOUND", "There is no demo to be read there", {
      detail: thrown instanceof Error ? thrown.message : file,
      hint: denied
        ? "Run this as the user who started the demo."
        : "Start one with `pgherd demo up`, or name a cluster with --config or --api.",
      cause: thrown,
    });
  }
  try {
    const demo = JSON.parse(text) as Partial<DemoFile>;
    if (Array.isArray(demo.nodes) && demo.nodes.length > 0) return { nodes: demo.nodes };
  } catch {
    // Falls through: both a broken and an empty file lead nowhere.
  }
  throw new Fault("CONFIG_INVALID", `${file} does not describe a demo`, {
    hint: "Take the demo down and start it again: pgherd demo down, pgherd demo up",
  });
}

/** The token of --token-file or PGHERD_TOKEN; null when neither is given. */
async function givenToken(globals: GlobalOptions, io: CliIo): Promise<Secret | null> {
  if (globals.tokenFile !== undefined) {
    const file = resolve(io.directory, globals.tokenFile);
    try {
      return tokenFrom(await readFile(file, "utf8"), file);
    } catch (thrown) {
      if (thrown instanceof Fault) throw thrown;
      throw new Fault("CONFIG_UNREADABLE", "The token file cannot be read", {
        detail: thrown instanceof Error ? thrown.message : file,
        hint: "Give a file you may read with --token-file, or set PGHERD_TOKEN.",
        cause: thrown,
      });
    }
  }
  const token = io.env["PGHERD_TOKEN"] ?? "";
  return token === "" ? null : new Secret(token);
}
