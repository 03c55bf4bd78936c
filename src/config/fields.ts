import { posix } from "node:path";
import { z } from "zod";
import { parseNodeName, type NodeName } from "../values/names.ts";
import { durationPattern, formatDuration, parseDuration } from "./duration.ts";
import { formatSize, parseSize, sizePattern } from "./size.ts";

/** What a key says of itself besides its type; it appears in the JSON Schema under the same names. */
export type FieldFacts = {
  readonly description: string;
  /** A default that depends on other keys, in words. */
  readonly "x-default"?: string;
  /** The value is written as one text or YAML document in the environment, whatever keys it has. */
  readonly "x-whole"?: boolean;
  readonly "x-unit"?: string;
  readonly "x-minimum"?: string;
  readonly "x-maximum"?: string;
};

type Issues = (message: string) => void;

function issuesOf(context: z.RefinementCtx): Issues {
  return (message) => context.addIssue({ code: "custom", message });
}

/** Bounds of a quantity in its text form, such as `2s` or `1GB`. */
export interface Bounds {
  readonly min: string;
  readonly max: string;
}

interface Quantity {
  readonly what: string;
  readonly unit: string;
  readonly example: string;
  readonly pattern: string;
  readonly parse: (value: string | number) => number | undefined;
  readonly format: (value: number) => string;
}

function quantity(kind: Quantity, facts: FieldFacts, bounds: Bounds) {
  const least = kind.parse(bounds.min) ?? 0;
  const most = kind.parse(bounds.max) ?? Number.MAX_SAFE_INTEGER;
  const expected = `expected ${kind.what} such as ${kind.example}`;
  return z
    .union(
      [
        z.number().min(0, expected),
        z.string().regex(new RegExp(`${kind.pattern}|^\\d+(\\.\\d+)?$`), expected),
      ],
      {
        error: (issue) => (issue.input === undefined ? undefined : expected),
      },
    )
    .transform((value, context): number => {
      const parsed = kind.parse(value);
      if (parsed === undefined) issuesOf(context)(expected);
      else if (parsed < least) issuesOf(context)(`${kind.format(parsed)} is below the minimum ${bounds.min}`);
      else if (parsed > most) issuesOf(context)(`${kind.format(parsed)} is above the maximum ${bounds.max}`);
      return parsed ?? 0;
    })
    .meta({ ...facts, "x-unit": kind.unit, "x-minimum": bounds.min, "x-maximum": bounds.max });
}

/** A duration with its bounds; yields milliseconds. */
export function duration(facts: FieldFacts, bounds: Bounds) {
  const kind = {
    what: "a duration",
    unit: "duration (plain number: seconds)",
    example: "5s, 500ms, 2min or 1h",
  };
  return quantity(
    { ...kind, pattern: durationPattern, parse: parseDuration, format: formatDuration },
    facts,
    bounds,
  );
}

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

/** A size with its bounds; yields bytes. */
export function size(facts: FieldFacts, bounds: Bounds) {
  const kind = { what: "a size", unit: "size (plain number: bytes)", example: "512kB, 16MB or 1GB" };
  return quantity({ ...kind, pattern: sizePattern, parse: parseSize, format: formatSize }, facts, bounds);
}

/** A text of at least one character. */
export function text(facts: FieldFacts) {
  return z.string().min(1).max(4096).meta(facts);
}

/** An absolute path; yields it without `.`, `..`, doubled and closing slashes. */
export function absolutePath(facts: FieldFacts) {
  return z
    .string()
    .max(4096)
    .regex(/^\//, "expected an absolute path, beginning with /")
    .refine((value) => !value.includes("\0") && !value.includes("\n"), "a path cannot hold line breaks")
    .transform((value) => {
      const path = posix.normalize(value);
      return path.length > 1 && path.endsWith("/") ? path.slice(0, -1) : path;
    })
    .meta(facts);
}

/** A yes-or-no key. */
export function flag(facts: FieldFacts) {
  return z.boolean().meta(facts);
}

/** A whole number within bounds. */
export function wholeNumber(facts: FieldFacts, min: number, max: number) {
  return z.int().min(min).max(max).meta(facts);
}

/** A TCP port. */
export function port(facts: FieldFacts) {
  return wholeNumber(facts, 1, 65_535);
}

/** A name of letters, digits, `_`, `-` and `.`, at most 63 characters: of a cluster or a node. */
export function name(facts: FieldFacts) {
  return z
    .string()
    .regex(
      /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/,
      "expected a name of letters, digits, _, - and . that begins with a letter or digit, at most 63 characters",
    )
    .meta(facts);
}

/** The name of a node. */
export function nodeName(facts: FieldFacts) {
  return name(facts)
    .transform((value, context): NodeName => {
      const node = parseNodeName(value);
      if (node !== undefined) return node;
      issuesOf(context)("expected the name of a node");
      return z.NEVER;
    })
    .meta(facts);
}

const hostForm = /^([A-Za-z0-9][A-Za-z0-9_.-]{0,252}|[0-9a-fA-F]*:[0-9a-fA-F:.]*(%[A-Za-z0-9_.-]+)?)$/;

/** A host name or IP address without port; IPv6 without brackets. */
export function host(facts: FieldFacts) {
  return z
    .string()
    .superRefine((value, context) => {
      const problem = hostProblem(value);
      if (problem !== null) issuesOf(context)(problem);
    })
    .meta(facts);
}

function hostProblem(value: string): string | null {
  if (value.includes("://")) return "expected a host name or an IP address, not a URL";
  if (/^[^:]+:\d+$/.test(value) || /^\[.*\]/.test(value))
    return "expected a host name or an IP address alone, without brackets and port";
  return hostForm.test(value) ? null : "expected a host name or an IP address";
}

/** A program and its arguments; the program is found in PATH or named by an absolute path. No shell is involved. */
export function command(facts: FieldFacts) {
  return z
    .array(z.string().max(4096), {
      error: (issue) =>
        typeof issue.input === "string"
          ? "expected a list: the program, then its arguments, such as [/usr/local/bin/notify, --quiet]"
          : undefined,
    })
    .min(1)
    .max(100)
    .superRefine((value, context) => {
      const program = value[0] ?? "";
      if (program === "") issuesOf(context)("the program has no name");
      else if (program.includes("/") && !program.startsWith("/"))
        issuesOf(context)(`the program ${program} must be an absolute path or a name found in PATH`);
    })
    .meta(facts);
}
