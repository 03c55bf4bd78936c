import type { Command, Option } from "commander";

export type Shell = "bash" | "zsh" | "fish";

/** What can follow one sequence of words. */
interface Place {
  /** `` for the program itself, `node check` for a nested command. */
  readonly words: string;
  readonly commands: readonly { readonly name: string; readonly about: string }[];
  readonly options: readonly {
    readonly flag: string;
    readonly about: string;
    readonly values: readonly string[];
  }[];
  /** Closed list of the first operand's values. */
  readonly values: readonly string[];
}

/** The completion script of a shell, generated from the command tree. */
export function completionScript(shell: Shell, program: Command): string {
  const places = placesOf(program);
  switch (shell) {
    case "bash":
      return bashScript(places);
    case "zsh":
      // zsh runs bash completions by its own emulation, so that there is one script to be right.
      return `#compdef pgherd\nautoload -U +X bashcompinit && bashcompinit\n${bashScript(places)}`;
    case "fish":
      return fishScript(places);
  }
}

function placesOf(
  command: Command,
  words: readonly string[] = [],
  inherited: readonly Option[] = [],
): Place[] {
  const options = [...command.options, ...inherited].filter((option) => !option.hidden);
  const place: Place = {
    words: words.join(" "),
    commands: command.commands.map((child) => ({ name: child.name(), about: child.description() })),
    options: options.flatMap((option) =>
      option.long == null
        ? []
        : [{ flag: option.long, about: option.description, values: option.argChoices ?? [] }],
    ),
    values: command.registeredArguments[0]?.argChoices ?? [],
  };
  return [place, ...command.commands.flatMap((child) => placesOf(child, [...words, child.name()], options))];
}

/** The words before the cursor, without options, choose the place. */
function bashScript(places: readonly Place[]): string {
  const cases = places.map((place) => {
    const flags = place.options.map((option) => option.flag);
    const words = [...place.commands.map((command) => command.name), ...place.values, ...flags, "--help"];
    return `    "${place.words}") words="${words.join(" ")}" ;;`;
  });
  const valued = new Map(
    places.flatMap((place) =>
      place.options
        .filter((option) => option.values.length > 0)
        .map((option) => [`${place.words}:${option.flag}`, option.values.join(" ")] as const),
    ),
  );
  const values = [...valued].map(([key, list]) => `    "${key}") words="${list}" ;;`);
  const known = places.filter((place) => place.words !== "").map((place) => `"${place.words}"`);
  return `_pgherd() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}" path="" words="" word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "\${path:+$path }$word" in
      ${known.join("|")}) path="\${path:+$path }$word" ;;
    esac
  done
  case "$path:$previous" in
${values.join("\n")}
  esac
  if [ -n "$words" ]; then COMPREPLY=($(compgen -W "$words" -- "$current")); return; fi
  case "$previous" in
    --config|-c|--token-file|--ca-file) COMPREPLY=($(compgen -f -- "$current")); return ;;
    --dir) COMPREPLY=($(compgen -d -- "$current")); return ;;
  esac
  case "$path" in
${cases.join("\n")}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o bashdefault -o default -F _pgherd pgherd
`;
}

function fishScript(places: readonly Place[]): string {
  const lines = [
    "function __pgherd_at",
    "  set -l path",
    "  for word in (commandline -opc)[2..-1]",
    "    switch (string join ' ' -- $path $word)",
    `      case ${places
      .filter((place) => place.words !== "")
      .map((place) => `'${place.words}'`)
      .join(" ")}`,
    "        set path $path $word",
    "    end",
    "  end",
    '  test "$path" = "$argv[1]"',
    "end",
    "complete -c pgherd -f",
  ];
  for (const place of places) {
    const at = `complete -c pgherd -n "__pgherd_at '${place.words}'"`;
    for (const command of place.commands) lines.push(`${at} -a ${command.name} -d ${quoted(command.about)}`);
    if (place.values.length > 0) lines.push(`${at} -a ${quoted(place.values.join(" "))}`);
    for (const option of place.options) {
      const values = option.values.length === 0 ? "" : ` -x -a ${quoted(option.values.join(" "))}`;
      lines.push(`${at} -l ${option.flag.slice(2)}${values} -d ${quoted(option.about)}`);
    }
  }
  return `${lines.join("\n")}\n`;
}

function quoted(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
