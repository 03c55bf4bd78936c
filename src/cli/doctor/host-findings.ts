import { execFile } from "node:child_process";
import { stat, statfs } from "node:fs/promises";
import { connect } from "node:net";
import { dirname } from "node:path";
import { findBinDir } from "../../config/bin-dir.ts";
import type { NodeConfig } from "../../config/node-config.ts";
import { toFault } from "../../values/fault.ts";
import type { CliIo } from "../io.ts";
import { bytesText } from "../render/quantity.ts";
import { failure, ok, warning, type Finding } from "./finding.ts";

/** What can be told of this host without a cluster. */
export function nodeFindings(version: string): Finding[] {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const enough = major > 20 || (major === 20 && minor >= 19);
  return enough
    ? [ok("host", `Node ${version}`)]
    : [failure("host", `Node ${version} is too old`, "Install Node 20.19 or newer.")];
}

/** What can be told of this host by a node file. `agentRuns`: its own agent answers. */
export async function hostFindings(config: NodeConfig, io: CliIo, agentRuns: boolean): Promise<Finding[]> {
  return [
    ...(await programFindings(config, io)),
    ...(await directoryFindings(config)),
    ...(await diskFindings(config)),
    ...(await portFindings(config, agentRuns)),
  ];
}

async function programFindings(config: NodeConfig, io: CliIo): Promise<Finding[]> {
  try {
    const binDir = findBinDir(config, io.env);
    return [ok("host", `${await versionOf(`${binDir}/postgres`)} in ${binDir}`)];
  } catch (thrown) {
    const { message, detail, hint } = toFault(thrown);
    return [failure("host", [message, detail].filter((part) => part !== null).join(": "), hint ?? "")];
  }
}

function versionOf(program: string): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(program, ["--version"], { timeout: 5000 }, (error, stdout) => {
      if (error === null) resolve(stdout.trim());
      else reject(new Error(`${program} --version: ${error.message}`, { cause: error }));
    });
  });
}

async function directoryFindings(config: NodeConfig): Promise<Finding[]> {
  const area = `data directory`;
  try {
    const { uid, mode } = await stat(config.dataDir);
    const loose = (mode & 0o027) !== 0;
    if (loose)
      return [
        failure(
          area,
          `${config.dataDir} has mode ${(mode & 0o777).toString(8)}: PostgreSQL refuses it`,
          `chmod 0700 ${config.dataDir}`,
        ),
      ];
    if (uid === 0)
      return [
        failure(
          area,
          `${config.dataDir} is owned by root, and PostgreSQL refuses root`,
          "chown it to the user of the agent.",
        ),
      ];
    return [ok(area, `${config.dataDir} is there, mode ${(mode & 0o777).toString(8)}`)];
  } catch (thrown) {
    const { code, message } = thrown as NodeJS.ErrnoException;
    if (code === "ENOENT") return [ok(area, `${config.dataDir} does not exist yet: the agent will make it`)];
    return [warning(area, `it cannot be looked at: ${message}`, "Run this as the user of the agent.")];
  }
}

async function diskFindings(config: NodeConfig): Promise<Finding[]> {
  const dir = await nearestExisting(config.dataDir);
  try {
    const { bavail, blocks, bsize } = await statfs(dir);
    const free = bavail * bsize;
    const share = blocks === 0 ? 1 : bavail / blocks;
    const text = `${bytesText(free)} free (${Math.round(share * 100)} %) at ${dir}`;
    const next = "Make room before PostgreSQL stops for lack of it.";
    if (share < 0.03 || free < 512 * 1024 ** 2) return [failure("disk", text, next)];
    return [share < 0.15 ? warning("disk", text, next) : ok("disk", text)];
  } catch (thrown) {
    return [
      warning("disk", `it cannot be looked at: ${String(thrown)}`, "Run this as the user of the agent."),
    ];
  }
}

async function nearestExisting(path: string): Promise<string> {
  for (let dir = path; dir !== "/"; dir = dirname(dir)) {
    const found = await stat(dir).then(
      () => true,
      () => false,
    );
    if (found) return dir;
  }
  return "/";
}

/** Ports that another program has, when the agent does not run. */
async function portFindings(config: NodeConfig, agentRuns: boolean): Promise<Finding[]> {
  if (agentRuns) return [ok("ports", `the agent of ${config.node} answers on ${config.api.port}`)];
  const wanted = [
    { port: config.api.port, key: "api.port" },
    { port: config.postgresql.port, key: "postgresql.port" },
  ];
  const findings: Finding[] = [];
  for (const { port, key } of wanted) {
    if (await answers(port))
      findings.push(
        failure(
          "ports",
          `${port} is in use, and no agent of ${config.node} answers`,
          `Find the program (ss -ltnp), or set another ${key}.`,
        ),
      );
    else findings.push(ok("ports", `${port} (${key}) is free`));
  }
  return findings;
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1", timeout: 1000 });
    const end = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once("connect", () => end(true));
    socket.once("timeout", () => end(false));
    socket.once("error", () => end(false));
  });
}
