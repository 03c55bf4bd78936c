import { resolve } from "node:path";
import { checkSettingsFile } from "../../config/cluster-settings.ts";
import { checkNodeFile } from "../../config/node-file.ts";
import { formatProblems, type ConfigProblem } from "../../config/problem.ts";
import { readYaml } from "../../config/yaml-document.ts";
import type { CommandContext } from "../context.ts";
import { exitCodes } from "../exit-code.ts";
import { countText } from "../render/quantity.ts";
import { printable } from "../render/width.ts";
import { readSettingsFile } from "./config.ts";

type FileKind = "node" | "settings";

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
  const { problems } = kind === "node" ? checkNodeFile(text, io.env, name) : checkSettingsFile(text, name);
  const document = { file: name, kind, problems };
  if (problems.length === 0) {
    const what = kind === "node" ? "node file" : "file of cluster settings";
    context.result(document, [`${name} is a valid ${what}.`]);
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

/** A node file names its node; cluster settings have no such keys. */
function kindOf(text: string): FileKind {
  const { value } = readYaml(text, null);
  if (typeof value !== "object" || value === null) return "node";
  const keys = Object.keys(value);
  const ofNodeFile = ["cluster", "node", "address", "data_dir", "dcs", "api"];
  const ofSettings = ["ttl", "max_lag_on_failover", "failover", "pause", "reclone", "handover_wait"];
  const hits = (names: readonly string[]): number => keys.filter((key) => names.includes(key)).length;
  return hits(ofSettings) > hits(ofNodeFile) ? "settings" : "node";
}
