import { Refusal } from "./refusal.ts";

/** One word of a command: as it stood there, or a quoted name or string without its quotes. */
export interface Word {
  readonly text: string;
  /** `'` a string, `"` a quoted identifier, null = a bare word. */
  readonly quote: "'" | '"' | null;
}

const blank = /\s+/y;
const lineComment = /--[^\n]*/y;
const blockComment = /\/\*[\s\S]*?\*\//y;
const quoted = /'((?:[^']|'')*)'|"((?:[^"]|"")*)"/y;
const bare = /[A-Za-z0-9_$.:+\-*]+|[\u0080-\uffff]+/y;

/**
 * The commands of a query string, each as its words; semicolons end them, comments and empty commands are dropped.
 * Anything else that is no word stands alone (`=`, `,`, `(`).
 * @throws Refusal 42601 for a quote that does not end
 */
export function commandsIn(text: string): readonly (readonly Word[])[] {
  const commands: Word[][] = [[]];
  let at = 0;
  const match = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found !== null) at = pattern.lastIndex;
    return found;
  };
  while (at < text.length) {
    if (match(blank) !== null || match(lineComment) !== null || match(blockComment) !== null) continue;
    const named = match(quoted);
    if (named !== null) {
      const [, string, identifier] = named;
      commands
        .at(-1)
        ?.push(
          string === undefined
            ? { text: (identifier ?? "").replaceAll('""', '"'), quote: '"' }
            : { text: string.replaceAll("''", "'"), quote: "'" },
        );
      continue;
    }
    const word = match(bare)?.[0] ?? text[at++] ?? "";
    if (word === ";") commands.push([]);
    else if (word === "'" || word === '"')
      throw new Refusal("42601", `unterminated quoted string at or near "${text.slice(at - 1, at + 20)}"`);
    else commands.at(-1)?.push({ text: word, quote: null });
  }
  return commands.filter((words) => words.length > 0);
}
