/** How many columns of a terminal a text takes, and texts made to fit. Pure. */

const segmenter = new Intl.Segmenter("en", { granularity: "grapheme" });

/** Columns the text takes: 2 for wide characters and emoji, 0 for what combines; colour sequences take none. */
export function displayWidth(text: string): number {
  // Nearly every text is plain ASCII.
  if (/^[\x20-\x7e]*$/.test(text)) return text.length;
  let width = 0;
  for (const { segment } of segmenter.segment(withoutColour(text))) width += segmentWidth(segment);
  return width;
}

/** The text without colour sequences. */
export function withoutColour(text: string): string {
  return text.replace(/\u001b\[[0-9;]*m/g, "");
}

function segmentWidth(segment: string): number {
  const point = segment.codePointAt(0) ?? 0;
  if (point < 0x20 || (point >= 0x7f && point < 0xa0)) return 0;
  if (/^[\p{Mark}\p{Format}]/u.test(segment)) return 0;
  if (/\p{Emoji_Presentation}|\ufe0f/u.test(segment)) return 2;
  return isWide(point) ? 2 : 1;
}

/** East Asian wide and full-width blocks. */
function isWide(point: number): boolean {
  return (
    (point >= 0x1100 && point <= 0x115f) ||
    (point >= 0x2e80 && point <= 0xa4cf && point !== 0x303f) ||
    (point >= 0xac00 && point <= 0xd7a3) ||
    (point >= 0xf900 && point <= 0xfaff) ||
    (point >= 0xfe30 && point <= 0xfe6f) ||
    (point >= 0xff00 && point <= 0xff60) ||
    (point >= 0xffe0 && point <= 0xffe6) ||
    (point >= 0x20000 && point <= 0x3fffd)
  );
}

/** The text with spaces up to `width` columns; longer texts stay as they are. */
export function padTo(text: string, width: number, align: "left" | "right" = "left"): string {
  const room = " ".repeat(Math.max(0, width - displayWidth(text)));
  return align === "left" ? text + room : room + text;
}

/** The text cut to `width` columns, its last one `…` when something was cut. */
export function cutTo(text: string, width: number): string {
  if (displayWidth(text) <= width) return text;
  let taken = "";
  let used = 0;
  for (const { segment } of segmenter.segment(text)) {
    const next = segmentWidth(segment);
    if (used + next > width - 1) break;
    taken += segment;
    used += next;
  }
  return width <= 0 ? "" : `${taken}…`;
}

/** The text in lines of at most `width` columns, broken at spaces; a longer word stands alone. */
export function wrapTo(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && displayWidth(line) + 1 + displayWidth(word) > width) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  lines.push(line);
  return lines;
}

/** The text with control characters made visible: what a server or a file says must not steer the terminal. */
export function printable(text: string): string {
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, (char) => {
    return `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`;
  });
}
