import { Cron } from "croner";
import { z } from "zod";
import { absolutePath, flag, text, type FieldFacts } from "./fields.ts";

/** What is kept: so many backups, or whatever restores to any time of the last so many milliseconds. */
export type RetentionPolicy =
  { readonly kind: "redundancy"; readonly copies: number } | { readonly kind: "window"; readonly ms: number };

const dayMs = 86_400_000;
/** A month has 31 days here: rather a backup too many than one too few. */
const unitDays: Readonly<Record<string, number>> = { DAY: 1, WEEK: 7, MONTH: 31 };
const redundancyForm = /^REDUNDANCY (\d{1,4})$/i;
const windowForm = /^RECOVERY WINDOW OF (\d{1,4}) (DAY|WEEK|MONTH)S?$/i;

/** `REDUNDANCY 3`, `RECOVERY WINDOW OF 2 WEEKS`; undefined when it is neither. */
export function parseRetention(value: string): RetentionPolicy | undefined {
  const written = value.trim().replaceAll(/\s+/g, " ");
  const copies = Number(redundancyForm.exec(written)?.[1] ?? 0);
  if (copies > 0) return { kind: "redundancy", copies };
  const [, count = "0", unit = ""] = windowForm.exec(written) ?? [];
  const days = Number(count) * (unitDays[unit.toUpperCase()] ?? 0);
  return days > 0 ? { kind: "window", ms: days * dayMs } : undefined;
}

/** A retention policy in the words Barman's users know. */
export function retention(facts: FieldFacts) {
  return z
    .string()
    .refine(
      (value) => parseRetention(value) !== undefined,
      "expected REDUNDANCY n or RECOVERY WINDOW OF n DAYS, WEEKS or MONTHS",
    )
    .meta(facts);
}

/** The next time after `from` at which the pattern matches, as milliseconds since 1970; null = never. */
export function nextRun(pattern: string, timeZone: string, from: number): number | null {
  return new Cron(pattern, { paused: true, timezone: timeZone }).nextRun(new Date(from))?.getTime() ?? null;
}

/** Why a text is no schedule; null = it is one. */
export function scheduleProblem(pattern: string): string | null {
  const expected = "expected five fields of cron (minute hour day month weekday) such as 0 2 * * 1, or off";
  if (pattern.trim().split(/\s+/).length !== 5) return expected;
  try {
    return nextRun(pattern, "UTC", Date.UTC(2026, 0, 1)) === null ? "no day ever matches it" : null;
  } catch {
    return expected;
  }
}

/** A cron pattern, or `off`; yields the pattern, null = off. */
export function schedule(facts: FieldFacts) {
  return z
    .union([z.literal(false), z.string().max(200)])
    .transform((value, context): string | null => {
      if (value === false || value === "off") return null;
      const problem = scheduleProblem(value);
      if (problem !== null) context.addIssue({ code: "custom", message: problem });
      return value.trim();
    })
    .meta({ ...facts, "x-unit": "cron pattern or off" });
}

/** A time zone of the IANA database. */
export function timeZone(facts: FieldFacts) {
  return z
    .string()
    .refine((value) => {
      try {
        return new Intl.DateTimeFormat("en", { timeZone: value }).resolvedOptions().timeZone !== "";
      } catch {
        return false;
      }
    }, "expected a time zone such as Europe/Berlin or UTC")
    .meta(facts);
}

const s3 = z.strictObject({
  bucket: text({ description: "The bucket." }).max(255),
  prefix: z
    .string()
    .regex(/^[A-Za-z0-9_.-]+(\/[A-Za-z0-9_.-]+)*\/?$/, "expected a path of letters, digits, _, -, . and /")
    .transform((value) => value.replace(/\/$/, ""))
    .meta({ description: "What the keys in the bucket begin with.", "x-default": "nothing" })
    .optional(),
  region: text({ description: "The region." }).max(63).default("us-east-1"),
  endpoint: z
    .url({
      protocol: /^https?$/,
      error: (issue) =>
        issue.input === undefined ? undefined : "expected a URL such as https://s3.local:9000",
    })
    .meta({ description: "Where the service answers.", "x-default": "Amazon's of the region" })
    .optional(),
  path_style: flag({
    description: "The bucket stands in the path, not in the name of the host; with an endpoint of your own.",
    "x-default": "true with `endpoint`",
  }).optional(),
  credentials_file: absolutePath({
    description:
      "File with `aws_access_key_id = ...` and `aws_secret_access_key = ...`, as Amazon's tools have it.",
    "x-default": "the variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
  }).optional(),
  ca_file: absolutePath({
    description: "The authority that signed the service's certificate, PEM.",
    "x-default": "the system's",
  }).optional(),
});

const repositoryObject = z
  .strictObject({
    path: absolutePath({ description: "A directory of this host." }).optional(),
    s3: s3.meta({ description: "An S3-compatible object store." }).optional(),
    key_file: absolutePath({
      description:
        "File with 32 random bytes in base64: everything is encrypted (AES-256-GCM). Keep a copy elsewhere: without it nothing can be restored.",
      "x-default": "nothing is encrypted",
    }).optional(),
  })
  .superRefine((value, context) => {
    if ((value.path === undefined) === (value.s3 === undefined))
      context.addIssue({ code: "custom", message: "names one place: path or s3" });
  });

/** A repository as the file names it, always in its long form. */
export type RepositoryFile = z.output<typeof repositoryObject>;

/** A directory, or a group that says where and with which key. */
export function repository(facts: FieldFacts) {
  return z
    .union([absolutePath({ description: "A directory of this host." }), repositoryObject])
    .transform((value): RepositoryFile => (typeof value === "string" ? { path: value } : value))
    .meta(facts);
}
