import type { Argument, Command, Option } from "commander";
import { commandPaths, createProgram } from "../../src/cli/program.ts";

const silent = { write: () => undefined, terminal: false, columns: null };

/** docs/reference/cli.md, generated from the command tree. */
export function renderCliReference(): string {
  const program = createProgram(() => () => Promise.resolve(), { stdout: silent, stderr: silent });
  const paths = commandPaths(program);
  const sections = [
    head,
    "## Options of every command\n",
    optionTable(program.options),
    "## Commands\n",
    paths
      .map(
        ({ words, command }) => `- [\`${words.join(" ")}\`](#${words.join("-")}): ${command.description()}`,
      )
      .join("\n"),
    ...paths.map(({ words, command }) => commandSection(words, command)),
  ];
  return `${sections.join("\n").trimEnd()}\n`;
}

const head = `# The command line

<!-- Generated from src/cli/tree: PGHERD_WRITE_REFERENCE=1 npx vitest run --project unit src/cli/completion.test.ts -->

A command finds its cluster by \`--config FILE\` (a node file), \`--api URL\`, or \`--dir DIR\` (a demo); else by the environment
variable \`PGHERD_API\`; else it takes the last demo of this user.

Changes need the API's token: from \`--token-file\`, else \`PGHERD_TOKEN\`, else the secrets file of the node or the demo.
They ask on a terminal; without one they need \`--yes\`. \`--dry-run\` runs every check, prints what would be done and changes
nothing.

With \`--json\` standard output is exactly one JSON document, an error too (\`{code, message, detail, hint}\`); everything else
goes to standard error. (\`status --watch --json\` prints one document per line.)

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | failed, and nothing was changed |
| 2 | called wrongly |
| 3 | failed half-way, or nobody knows how far: the message says what state it left |

\`node check\` alone has the codes of Nagios: 0 ok, 1 warning, 2 critical, 3 unknown.

Marks: \`*\` leader, \`!\` needs a person, \`?\` unknown, \`~\` working on it.
`;

function commandSection(words: readonly string[], command: Command): string {
  const usage = ["pgherd", ...words, command.usage().replace("[options] ", "").replace("[options]", "")]
    .join(" ")
    .trim();
  const parts = [
    `\n## ${words.join(" ")}\n`,
    `${sentence(command.description())}\n`,
    `\`\`\`\n${usage}${command.options.length > 0 ? " [options]" : ""}\n\`\`\`\n`,
  ];
  if (command.registeredArguments.length > 0) parts.push(argumentTable(command.registeredArguments));
  if (command.options.length > 0) parts.push(optionTable(command.options));
  return parts.join("\n");
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

function argumentTable(items: readonly Argument[]): string {
  const rows = items.map((item) => {
    const name = `${item.name()}${item.variadic ? "..." : ""}`;
    const values = item.argChoices === undefined ? "" : ` (${item.argChoices.join(", ")})`;
    return `| \`${item.required ? `<${name}>` : `[${name}]`}\` | ${cell(item.description)}${values} |`;
  });
  return `| operand | |\n| --- | --- |\n${rows.join("\n")}\n`;
}

function optionTable(items: readonly Option[]): string {
  const rows = items.map((item) => {
    const values = item.argChoices === undefined ? "" : ` (${item.argChoices.join(", ")})`;
    const standard = defaultText(item);
    const required = item.mandatory ? "; required" : "";
    return `| \`${item.flags}\` | ${cell(item.description)}${values}${standard}${required} |`;
  });
  return `| option | |\n| --- | --- |\n${rows.join("\n")}\n`;
}

/** Durations and sizes are kept in milliseconds and bytes: their unit is named. */
function defaultText(item: Option): string {
  const value: unknown = item.defaultValue;
  if (typeof value === "string") return `; default ${value}`;
  if (typeof value !== "number") return "";
  if (item.flags.includes("<duration>")) return `; default ${value / 1000} s`;
  if (item.flags.includes("<size>")) return `; default ${value / 1024 ** 2} MB`;
  return `; default ${value}`;
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|");
}
