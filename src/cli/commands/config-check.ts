import { resolve } from "node:path";
import { checkBackupFile } from "../../config/backup-file.ts";
import { checkSettingsFile } from "../../config/cluster-settings.ts";
import type { Environment } from "../../config/environment.ts";
import { checkNodeFile } from "../../config/node-file.ts";
import { formatProblems, type ConfigProblem } from "../../config/problem.ts";
import { checkRouterFile } from "../../config/router-file.ts";
import { readYaml } from "../../config/yaml-document.ts";
import type { CommandContext } from "../context.ts";
import { exitCodes } from "../exit-code.ts";
import { countText } from "../render/quantity.ts";
import { printable } from "../render/width.ts";
import { readSettingsFile } from "./config.ts";

type FileKind = "node" | "router" | "backup" | "settings";

const whatItIs: Readonly<Record<FileKind, string>> = {
  node: "node file",
  router: "router file",
  backup: "backup file",
  settings: "file of cluster settings",
};

/** `pgherd config check` */
export async function check(
  context: CommandContext,
  options: { readonly kind?: FileKind },
  operands: readonly string[],
): Promise<number> {
  const name = operands[0] ?? "-";
  const { io } = context;
  const text = name === "-" ? await io.readInput() : await readSettingsFile(resolve(io.directory, name));
  const kind = options.kind ?? kindOf(text);
  const problems = problemsIn(kind, text, name, io.env);
  const document = { file: name, kind, problems };
  if (problems.length === 0) {
    context.result(document, [`${name} is a valid ${whatItIs[kind]}.`]);
    return exitCodes.done;
  }
  context.result(document, problemLines(problems));
  return exitCodes.failed;
}

function problemLines(problems: readonly ConfigProblem[]): string[] {
  return [
    ...formatProblems(problems).map(printable),
    `${countText(problems.length, "problem")}. Nothing was started.`,
  ];
}

function problemsIn(
  kind: FileKind,
  text: string,
  name: string,
  environment: Environment,
): readonly ConfigProblem[] {
  switch (kind) {
    case "node":
      return checkNodeFile(text, environment, name).problems;
    case "router":
      return checkRouterFile(text, environment, name).problems;
    case "backup":
      return checkBackupFile(text, environment, name).problems;
    case "settings":
      return checkSettingsFile(text, name).problems;
  }
}

/** A backup file names a repository; a node file its node and its data, a router file neither; cluster settings have no such keys. */
function kindOf(text: string): FileKind {
  const { value } = readYaml(text, null);
  if (typeof value !== "object" || value === null) return "node";
  const keys = Object.keys(value);
  const hits = (names: readonly string[]): number => keys.filter((key) => names.includes(key)).length;
  if (keys.includes("repository") || hits(["retention", "schedule", "copies", "drill"]) > 1) return "backup";
  const ofNode = hits(["node", "data_dir", "api", "postgresql", "tags", "hooks", "bootstrap"]);
  const ofRouter = hits([
    "router",
    "listeners",
    "vip",
    "access",
    "limits",
    "admin",
    "metrics",
    "backend_tls",
  ]);
  const ofBoth = hits(["cluster", "address", "dcs"]);
  const ofSettings = hits(["ttl", "max_lag_on_failover", "failover", "pause", "reclone", "handover_wait"]);
  if (ofSettings > ofBoth + Math.max(ofNode, ofRouter)) return "settings";
  // Where nothing tells: what a node cannot do without is not there.
  return ofRouter > ofNode || (ofNode === 0 && ofBoth === 3) ? "router" : "node";
}
