import { SqlLexer, token } from "../pgwire/sql-lexer.ts";

/** PostgreSQL cuts names off here. */
const nameLength = 63;

/**
 * The text of one PREPARE, out of the query string it came in. pg_prepared_statements keeps the whole string: when a client
 * sent several statements at once, running it again would run all of them again.
 * @param text one character per byte
 * @returns null = it cannot be told apart with certainty
 */
export function singlePrepare(text: string, name: string): string | null {
  const found = preparesOf(text, name, true);
  const [only] = found;
  // Where a backslash could mean two things, both must come to the same.
  const same = preparesOf(text, name, false);
  return only !== undefined && found.length === 1 && same.length === 1 && same[0] === only ? only : null;
}

/** What one PREPARE of the text prepares; "" = it cannot be told apart with certainty. @param text as for `singlePrepare` */
export function preparedBody(text: string, name: string): string {
  const statement = singlePrepare(text, name);
  if (statement === null) return "";
  const lexer = new SqlLexer(statement, true);
  lexer.next();
  lexer.next();
  for (let depth = 0; ;) {
    lexer.next();
    if (lexer.kind === token.end) return "";
    if (lexer.isSymbol("(")) depth += 1;
    else if (lexer.isSymbol(")")) depth -= 1;
    else if (depth === 0 && lexer.isWord("as")) return statement.slice(lexer.end);
  }
}

/** Every statement of the text that prepares this name. */
function preparesOf(text: string, name: string, plainStrings: boolean): string[] {
  const lexer = new SqlLexer(text, plainStrings);
  const found: string[] = [];
  let start = 0;
  let depth = 0;
  let tokens = 0;
  let prepares = false;
  for (lexer.next(); ; lexer.next()) {
    const over = lexer.kind === token.end;
    if (over || (depth <= 0 && lexer.isSymbol(";"))) {
      const end = over ? text.length : lexer.end - 1;
      if (prepares && tokens > 2) found.push(text.slice(start, end).trim());
      if (over) return found;
      [start, depth, tokens, prepares] = [lexer.end, 0, 0, false];
      continue;
    }
    if (lexer.isSymbol("(")) depth += 1;
    if (lexer.isSymbol(")")) depth -= 1;
    tokens += 1;
    if (tokens === 1) prepares = lexer.isWord("prepare");
    if (tokens === 2 && prepares) prepares = isName(lexer, name);
  }
}

function isName(lexer: SqlLexer, name: string): boolean {
  const named = lexer.kind === token.word || lexer.kind === token.quoted;
  return named && lexer.text?.slice(0, nameLength) === name;
}
