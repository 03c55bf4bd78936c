import { z } from "zod";

/**
 * Who has a virtual address (`pgherd/vips/<name>`). Renewed by compare-and-swap every ttl/5; observers time it from the moment they
 * first saw its latest renewal (P2). released: the holder has removed the address first.
 */
export interface VipLock {
  readonly address: string;
  /** The router's name. */
  readonly holder: string;
  /** The running router process. */
  readonly routerId: string;
  readonly renewal: number;
  readonly ttlMs: number;
  readonly state: "held" | "released";
  /** released: who shall take it at once; null = whoever ranks first. */
  readonly successor: string | null;
  /** Why it was released, for people. */
  readonly reason: string | null;
}

/** A router that would hold the address (`pgherd/vips/<name>/candidates/<router>`); written while it does not, by itself alone. */
export interface VipCandidate {
  readonly router: string;
  readonly routerId: string;
  /** Grows with every write: whoever sees it grow knows that the router lives. */
  readonly sequence: number;
  readonly priority: number;
  /** Wants the address back from a lower priority. */
  readonly preempt: boolean;
  /** It could hold the address now. */
  readonly fit: boolean;
}

const prefix = "pgherd/vips/";
const candidates = "/candidates/";

export const vipKeys = {
  /** Everything of one address stands below its lock's key. */
  lock: (name: string): string => `${prefix}${name}`,
  candidate: (name: string, router: string): string => `${prefix}${name}${candidates}${router}`,
  candidatesOf: (name: string): string => `${prefix}${name}${candidates}`,
} as const;

const lockSchema: z.ZodType<VipLock> = z.object({
  address: z.string(),
  holder: z.string(),
  routerId: z.string(),
  renewal: z.number(),
  ttlMs: z.number().positive(),
  state: z.enum(["held", "released"]),
  successor: z.string().nullable(),
  reason: z.string().nullable(),
});

const candidateSchema: z.ZodType<VipCandidate> = z.object({
  router: z.string(),
  routerId: z.string(),
  sequence: z.number(),
  priority: z.number(),
  preempt: z.boolean(),
  fit: z.boolean(),
});

/** The lock from its text; null = it makes no sense, and is to be treated as one of unknown length. */
export function parseLock(text: string): VipLock | null {
  return parse(lockSchema, text);
}

/** A candidate from its text; null = not one. */
export function parseCandidate(text: string): VipCandidate | null {
  return parse(candidateSchema, text);
}

function parse<T>(schema: z.ZodType<T>, text: string): T | null {
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}
