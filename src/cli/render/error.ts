import type { FaultReport } from "../../values/fault.ts";
import { errorWord, type Left } from "../failure.ts";
import type { Look } from "./look.ts";
import { displayWidth, printable, wrapTo } from "./width.ts";

/** An error as lines: what happened and its code, the detail, what to do next, and what was left behind. Pure. */
export function errorLines(report: FaultReport, left: Left, look: Look): string[] {
  const lines = headLines(report, look);
  // An agent says it in its own words; here it is the last line.
  const detail =
    left.kind === "nothing" ? report.detail?.replace(/\s*Nothing was changed\.$/, "") : report.detail;
  if (detail != null && detail !== "") lines.push(...partLines("detail", detail, look));
  if (report.hint !== null) lines.push(...partLines("next", report.hint, look));
  switch (left.kind) {
    case "none":
      return lines;
    case "nothing":
      return [...lines, "Nothing was changed."];
    case "partly":
      return [...lines, ...wrapTo(printable(left.state), look.width)];
  }
}

/** The sentence, with the code at the right edge of its last line when there is room. */
function headLines(report: FaultReport, look: Look): string[] {
  const word = errorWord(report.code);
  const sentence = /[.!?]$/.test(report.message) ? report.message : `${report.message}.`;
  const lines = sentence
    .split("\n")
    .flatMap((line, index) => wrapTo(printable(index === 0 ? `${word}: ${line}` : line), look.width));
  const code = `[${report.code}]`;
  const last = lines.at(-1) ?? "";
  const room = look.width - displayWidth(last) - code.length;
  if (room >= 2) lines[lines.length - 1] = `${last}${" ".repeat(room)}${look.paint("dim", code)}`;
  else lines.push(`${" ".repeat(Math.max(0, look.width - code.length))}${look.paint("dim", code)}`);
  lines[0] = (lines[0] ?? "").replace(`${word}:`, `${look.paint("bad", word)}:`);
  return lines;
}

/** `  detail  text`, continued under the text; the text's own line breaks stay. */
export function partLines(label: string, text: string, look: Look): string[] {
  const indent = "  ";
  const margin = `${indent}${label.padEnd(6)}  `;
  return text
    .split("\n")
    .flatMap((line) => wrapTo(printable(line), look.width - margin.length))
    .map((line, index) => `${index === 0 ? margin : " ".repeat(margin.length)}${line}`.trimEnd());
}
