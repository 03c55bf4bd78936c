import { createColors } from "picocolors";
import type { Zone } from "./quantity.ts";

/** Tones a text may have. Colour only adds: every meaning is also carried by a word or a mark. */
export type Tone = "good" | "warn" | "bad" | "dim" | "bold";
/** Gives a text its tone. */
export type Paint = (tone: Tone, text: string) => string;

/** What a renderer needs to know of the place it draws on. */
export interface Look {
  /** Now, in milliseconds since the epoch. */
  readonly nowMs: number;
  /** Columns a table may take. */
  readonly width: number;
  readonly zone: Zone;
  readonly paint: Paint;
}

/** Colours when `enabled`, plain text otherwise. */
export function createPaint(enabled: boolean): Paint {
  const colors = createColors(enabled);
  return (tone, text) => {
    switch (tone) {
      case "good":
        return colors.green(text);
      case "warn":
        return colors.yellow(text);
      case "bad":
        return colors.red(text);
      case "dim":
        return colors.dim(text);
      case "bold":
        return colors.bold(text);
    }
  };
}

/** The marks before a line: `*` leader, `!` needs a person, `?` unknown, `~` working on it. */
export type Mark = "*" | "!" | "?" | "~" | " ";

/** The tone that goes with a mark. */
export function markTone(mark: Mark): Tone | null {
  switch (mark) {
    case "*":
      return "good";
    case "!":
      return "bad";
    case "?":
      return "warn";
    case "~":
      return "warn";
    case " ":
      return null;
  }
}
