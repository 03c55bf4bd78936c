/** The kinds of values that records hold: texts and numbers of the store that become branded ones, or are refused. */
import { z } from "zod";
import { parseLsn } from "../values/lsn.ts";
import {
  parseMember,
  parseNodeName,
  parseSystemIdentifier,
  parseTimeline,
  parseToken,
} from "../values/names.ts";
import type { WallTime } from "../values/time.ts";

function branded<T>(parse: (text: string) => T | undefined, what: string): z.ZodType<T> {
  return z.string().transform((text, context) => {
    const value = parse(text);
    if (value !== undefined) return value;
    context.addIssue({ code: "custom", message: `not a ${what}` });
    return z.NEVER;
  });
}

function brandedNumber<T>(parse: (value: number) => T | undefined, what: string): z.ZodType<T> {
  return z.number().transform((number, context) => {
    const value = parse(number);
    if (value !== undefined) return value;
    context.addIssue({ code: "custom", message: `not a ${what}` });
    return z.NEVER;
  });
}

export const nodeName = branded(parseNodeName, "node name");
export const lsn = branded(parseLsn, "WAL position");
export const member = branded(parseMember, "member (node/incarnation)");
export const systemIdentifier = branded(parseSystemIdentifier, "system identifier");
export const timeline = brandedNumber(parseTimeline, "timeline number");
export const token = brandedNumber(parseToken, "token");
export const wallTime = z.string() as unknown as z.ZodType<WallTime>;
export const scalar = z.union([z.string(), z.number(), z.boolean()]);
