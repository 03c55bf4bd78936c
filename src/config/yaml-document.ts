import {
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
  visit,
  type Document,
  type Node,
  type Pair,
  type YAMLError,
} from "yaml";
import { Fault } from "../values/fault.ts";
import type { ConfigProblem, DocumentPath } from "./problem.ts";

/** A YAML text that has been read, with the place of each of its keys. */
export interface YamlDocument {
  /** The document as plain values, null when it is empty; undefined when it cannot be read. */
  readonly value: unknown;
  /** Syntax errors, duplicate keys, several documents in one file. */
  readonly problems: readonly ConfigProblem[];
  /** The place of the key or of the value at a path; of the nearest parent that exists when it does not. */
  place(path: DocumentPath, of: "key" | "value"): Place;
}

/** A position in a text, counted from 1. */
export interface Place {
  readonly line: number;
  readonly column: number;
}

/** A node file or settings document above this size is not one: 256 KiB. */
export const largestDocumentBytes = 256 * 1024;

/** Reads a YAML text (JSON is YAML). `file` is how the problems call it. */
export function readYaml(text: string, file: string | null): YamlDocument {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true });
  const place = (offset: number): Place => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(1, line), column: Math.max(1, col) };
  };
  const problems = [...document.errors, ...document.warnings].map((error): ConfigProblem => {
    const sentence = error.message.replace(/\s+/g, " ").replace(/[.:]$/, "");
    return {
      file,
      ...place(error.pos[0]),
      path: duplicateKey(text, error),
      ...inWords(error.code, sentence),
    };
  });
  const plain = toPlain(document);
  if (plain.problem !== null)
    problems.push({ file, ...place(unknownAlias(document)), path: "", message: plain.problem, hint: null });
  return {
    value: plain.value,
    problems,
    place: (path, of) => place(offsetOf(document, path, of)),
  };
}

/** The text of one variable of the environment or of one `key=value`, as a value. @throws Fault CONFIG_INVALID */
export function readYamlValue(text: string): unknown {
  const { value, problems } = readYaml(text, null);
  const problem = problems[0];
  if (problem !== undefined) throw new Fault("CONFIG_INVALID", problem.message);
  return value;
}

function duplicateKey(text: string, error: YAMLError): string {
  return error.code === "DUPLICATE_KEY" ? (/^[\w.-]+/.exec(text.slice(error.pos[0]))?.[0] ?? "") : "";
}

function inWords(code: string, sentence: string): { message: string; hint: string | null } {
  if (code === "DUPLICATE_KEY")
    return { message: "the key stands here a second time", hint: "remove one of the two" };
  if (code === "TAB_AS_INDENT") return { message: "a tab used as indentation", hint: "YAML wants spaces" };
  if (code === "MULTIPLE_DOCS")
    return { message: "a second document begins here", hint: "write one per file" };
  return { message: `not valid YAML: ${sentence}`, hint: null };
}

function toPlain(document: Document): { value: unknown; problem: string | null } {
  // With a duplicate key the rest can still be checked.
  if (document.errors.some((error) => error.code !== "DUPLICATE_KEY"))
    return { value: undefined, problem: null };
  try {
    return { value: document.toJS({ maxAliasCount: 100 }), problem: null };
  } catch (thrown) {
    const why = thrown instanceof Error ? thrown.message : String(thrown);
    return { value: undefined, problem: `not valid YAML: ${why}` };
  }
}

/** Where an alias stands whose anchor does not exist; the beginning when there is none. */
function unknownAlias(document: Document): number {
  let offset = 0;
  visit(document, {
    Alias: (_, alias) => {
      if (alias.resolve(document) !== undefined) return undefined;
      offset = startOf(alias) ?? 0;
      return visit.BREAK;
    },
  });
  return offset;
}

function offsetOf(document: Document, path: DocumentPath, of: "key" | "value"): number {
  let node: unknown = document.contents;
  let offset = startOf(node) ?? 0;
  for (const [index, part] of path.entries()) {
    if (isAlias(node)) node = node.resolve(document);
    const last = index === path.length - 1;
    if (isMap(node)) {
      const pair = node.items.find((item) => keyText(item) === String(part));
      if (pair === undefined) return offset;
      const key = startOf(pair.key) ?? offset;
      offset = last && of === "value" ? (valueStart(pair) ?? key) : key;
      node = pair.value;
    } else if (isSeq(node)) {
      node = node.items[Number(part)];
      offset = startOf(node) ?? offset;
    } else return offset;
  }
  return offset;
}

function keyText(pair: Pair): string | null {
  return isScalar(pair.key) ? String(pair.key.value) : null;
}

function valueStart(pair: Pair): number | undefined {
  // An empty value has a place of its own, behind the line's end: the key is the better one.
  if (isScalar(pair.value) && pair.value.value === null) return undefined;
  return startOf(pair.value);
}

function startOf(node: unknown): number | undefined {
  return (node as Node | null | undefined)?.range?.[0];
}
