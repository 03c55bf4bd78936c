import { isIP } from "node:net";
import { z } from "zod";
import { durationPattern, formatDuration, parseDuration } from "./duration.ts";
import type { Bounds, FieldFacts } from "./fields.ts";

/** A duration with its bounds, or `off`; yields milliseconds, null = off. */
export function durationOrOff(facts: FieldFacts, bounds: Bounds) {
  const least = parseDuration(bounds.min) ?? 0;
  const most = parseDuration(bounds.max) ?? Number.MAX_SAFE_INTEGER;
  const expected = "expected a duration such as 5s, 500ms, 2min or 1h, or off";
  return z
    .union(
      [
        z.literal(false),
        z.number().min(0, expected),
        z.string().regex(new RegExp(`^off$|${durationPattern}|^\\d+(\\.\\d+)?$`), expected),
      ],
      { error: (issue) => (issue.input === undefined ? undefined : expected) },
    )
    .transform((value, context): number | null => {
      if (value === "off" || value === false) return null;
      const parsed = parseDuration(value);
      const refuse = (message: string): void => context.addIssue({ code: "custom", message });
      if (parsed === undefined) refuse(expected);
      else if (parsed < least) refuse(`${formatDuration(parsed)} is below the minimum ${bounds.min}`);
      else if (parsed > most) refuse(`${formatDuration(parsed)} is above the maximum ${bounds.max}`);
      return parsed ?? 0;
    })
    .meta({ ...facts, "x-unit": "duration or off", "x-minimum": bounds.min, "x-maximum": bounds.max });
}

/** An address with the length of its network's prefix, taken apart. */
export interface Network {
  readonly address: string;
  readonly prefixLength: number;
}

/** `10.0.0.0/8`, `fd00::/8`; undefined when the text is none. An address alone is a network of its own. */
export function parseNetwork(text: string): Network | undefined {
  const [address = "", length, ...more] = text.split("/");
  const family = isIP(address);
  if (family === 0 || more.length > 0) return undefined;
  const longest = family === 4 ? 32 : 128;
  if (length === undefined) return { address, prefixLength: longest };
  if (!/^\d{1,3}$/.test(length) || Number(length) > longest) return undefined;
  return { address, prefixLength: Number(length) };
}

/** A network in CIDR form, or one address. */
export function network(facts: FieldFacts) {
  return z
    .string()
    .refine(
      (value) => parseNetwork(value) !== undefined,
      "expected a network such as 10.0.0.0/8 or fd00::/8, or one address",
    )
    .meta(facts);
}

/** One text or a list of them; yields the list. */
export function oneOrMany(entry: z.ZodType<string, string>, facts: FieldFacts) {
  return z
    .union([entry, z.array(entry).min(1).max(1000)])
    .transform((value): readonly string[] => (typeof value === "string" ? [value] : value))
    .meta(facts);
}
