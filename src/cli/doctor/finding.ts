import type { Look, Mark } from "../render/look.ts";
import { countText } from "../render/quantity.ts";
import { markedLines } from "../render/status.ts";

/** One line of the doctor. */
export interface Finding {
  /** What was looked at: `host`, `DCS`, `agents`. */
  readonly area: string;
  readonly level: "ok" | "warning" | "failure";
  readonly text: string;
  /** What to do; null when all is well. */
  readonly next: string | null;
}

/** All is well with it. */
export function ok(area: string, text: string): Finding {
  return { area, level: "ok", text, next: null };
}

/** It works, but not for long or not safely. */
export function warning(area: string, text: string, next: string): Finding {
  return { area, level: "warning", text, next };
}

/** It does not work. */
export function failure(area: string, text: string, next: string): Finding {
  return { area, level: "failure", text, next };
}

const marks: Readonly<Record<Finding["level"], Mark>> = { ok: " ", warning: "?", failure: "!" };

/** The findings as lines, what to do below each, and a summary. Pure. */
export function findingLines(findings: readonly Finding[], look: Look): string[] {
  const width = Math.max(0, ...findings.map((finding) => finding.area.length));
  const lines = findings.flatMap((finding) => {
    const head = `${finding.level.padEnd(7)}  ${finding.area.padEnd(width)}  `;
    const text = markedLines(marks[finding.level], `${head}${finding.text}`, look);
    const next = finding.next === null ? [] : markedLines(" ", `${" ".repeat(9)}next: ${finding.next}`, look);
    return [...text, ...next];
  });
  return [...lines, "", summary(findings)];
}

function summary(findings: readonly Finding[]): string {
  const count = (level: Finding["level"]): number =>
    findings.filter((finding) => finding.level === level).length;
  return `${countText(count("failure"), "failure")}, ${countText(count("warning"), "warning")}, ${count("ok")} ok.`;
}
