import { isIP } from "node:net";
import { z } from "zod";
import type { FieldFacts } from "./fields.ts";

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
