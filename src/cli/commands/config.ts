import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { stringify } from "yaml";
import { checkSettingsFile, type StoredSettings } from "../../config/cluster-settings.ts";
import { invalidConfig } from "../../config/checked-file.ts";
import { diffSettings, patchFromAssignments } from "../../config/settings-change.ts";
import type { SettingsChange } from "../../agent/service.ts";
import { Fault } from "../../values/fault.ts";
import { declined, type ChangeFlags, type CommandContext } from "../context.ts";
import { change } from "../failure.ts";
import type { Look } from "../render/look.ts";

/** `pgherd config show` */
export async function show(
  context: CommandContext,
  options: { readonly stored?: boolean },
): Promise<undefined> {
  const settings = await (await context.reader()).settings();
  const shown = options.stored === true ? settings.stored : settings.effective;
  const lines = Object.keys(shown).length === 0 ? ["# nothing is set"] : [stringify(shown).trimEnd()];
  context.result(shown, lines);
  return undefined;
}

/** `pgherd config set` */
export async function set(
  context: CommandContext,
  options: ChangeFlags,
  assignments: readonly string[],
): Promise<number | undefined> {
  const patch = patchFromAssignments(assignments);
  const { version } = await (await context.reader()).settings();
  const client = await context.writer();
  return makeChange(context, options, (dryRun) => client.patchSettings(patch, { dryRun, version }));
}

/** `pgherd config edit` */
export async function edit(context: CommandContext, options: ChangeFlags): Promise<number | undefined> {
  if (!context.io.inputIsTerminal)
    throw new Fault("USAGE", "An editor needs a terminal", {
      hint: "Use pgherd config set key=value, or pgherd config diff FILE.",
    });
  const { stored, version } = await (await context.reader()).settings();
  const edited = await editedSettings(context, stored);
  if (diffSettings(stored, edited).length === 0) {
    context.result({ diff: [], changed: false }, ["Nothing was changed."]);
    return undefined;
  }
  const client = await context.writer();
  return makeChange(context, options, (dryRun) => client.replaceSettings(edited, { dryRun, version }));
}

/** The settings as the user left them in the editor, a second time with the problems as comments when there are any. */
async function editedSettings(context: CommandContext, stored: StoredSettings): Promise<StoredSettings> {
  const dir = await mkdtemp(join(tmpdir(), "pgherd-config-"));
  const file = join(dir, "settings.yml");
  try {
    await writeFile(file, `${editHead}${Object.keys(stored).length === 0 ? "" : stringify(stored)}`, {
      mode: 0o600,
    });
    for (;;) {
      await context.io.edit(file);
      const text = await readFile(file, "utf8");
      const { document, problems } = checkSettingsFile(text, "settings.yml");
      if (document !== null && problems.length === 0) return document;
      const fault = invalidConfig("settings.yml", problems);
      context.note((fault.detail ?? fault.message).split("\n"));
      const again = await context.io.ask("Edit again? [Y/n] ");
      if (again === null || /^n/i.test(again.trim())) throw fault;
    }
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

const editHead = `# The cluster settings that are set; what is not here has its default (pgherd config show).
# Durations such as 5s or 2min, sizes such as 16MB. Save and close; the change is shown before it is made.
`;

/** Shows the change, asks, makes it. */
async function makeChange(
  context: CommandContext,
  options: ChangeFlags,
  send: (dryRun: boolean) => Promise<SettingsChange>,
): Promise<number | undefined> {
  const planned = await send(true);
  if (planned.diff.length === 0) {
    context.result({ diff: [], changed: false }, ["It is so already: nothing was changed."]);
    return undefined;
  }
  const lines = diffLines(planned.diff, context.look());
  if (options.dryRun === true) {
    context.result({ dry_run: true, diff: planned.diff }, [...lines, "Nothing was changed."]);
    return undefined;
  }
  if (options.yes !== true) context.note(lines);
  const answer = await declined(context, "Make this change?", options);
  if (answer !== null) return answer;
  const made = await change(() => send(false), "see pgherd config show");
  context.result(
    { diff: made.diff, changed: true, version: made.view.version },
    diffLines(made.diff, context.look()),
  );
  return undefined;
}

function diffLines(diff: readonly string[], look: Look): string[] {
  return diff.map((line) =>
    line.startsWith("+") ? look.paint("good", line) : line.startsWith("-") ? look.paint("bad", line) : line,
  );
}

/** `pgherd config diff`: from what is set to what the file would set. */
export async function diff(
  context: CommandContext,
  _options: object,
  operands: readonly string[],
): Promise<undefined> {
  const name = operands[0] ?? "-";
  const text =
    name === "-" ? await context.io.readInput() : await readSettingsFile(resolve(context.io.directory, name));
  const file = name === "-" ? "standard input" : basename(name);
  const { document, problems } = checkSettingsFile(text, file);
  if (document === null || problems.length > 0) throw invalidConfig(file, problems);
  const { stored } = await (await context.reader()).settings();
  const lines = diffSettings(stored, document);
  context.result({ diff: lines }, lines.length === 0 ? ["No difference."] : diffLines(lines, context.look()));
  return undefined;
}

/** The text of a file somebody named. @throws Fault CONFIG_UNREADABLE */
export async function readSettingsFile(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (thrown) {
    throw new Fault("CONFIG_UNREADABLE", `${path} cannot be read`, {
      detail: thrown instanceof Error ? thrown.message : path,
      hint: "Name an existing file that you may read.",
      cause: thrown,
    });
  }
}
