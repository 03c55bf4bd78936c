import { markTone, type Look, type Mark } from "../render/look.ts";
import { countText } from "../render/quantity.ts";
import { printable, wrapTo } from "../render/width.ts";

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
  const lines = findings.flatMap((finding) => oneFinding(finding, width, look));
  return [...lines, "", summary(findings)];
}

function oneFinding({ level, area, text, next }: Finding, areaWidth: number, look: Look): string[] {
  const mark = marks[level];
  const tone = markTone(mark);
  const head = `${tone === null ? mark : look.paint(tone, mark)} ${level.padEnd(7)}  ${area.padEnd(areaWidth)}  `;
  const margin = " ".repeat(2 + 9 + areaWidth + 2);
  const room = look.width - margin.length;
  const parts = [...wrapTo(printable(text), room)];
  if (next !== null && next !== "") parts.push(...wrapTo(printable(`next: ${next}`), room));
  return parts.map((part, index) => `${index === 0 ? head : margin}${part}`);
}

function summary(findings: readonly Finding[]): string {
  const count = (level: Finding["level"]): number =>
    findings.filter((finding) => finding.level === level).length;
  return `${countText(count("failure"), "failure")}, ${countText(count("warning"), "warning")}, ${count("ok")} ok.`;
}
