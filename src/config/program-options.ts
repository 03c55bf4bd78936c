import { z } from "zod";
import type { FieldFacts } from "./fields.ts";

/** The options of one program that pgherd gives itself: long names without dashes, and single letters. */
interface OwnedOptions {
  readonly program: string;
  readonly long: readonly string[];
  readonly short: string;
}

/** initdb: where, as whom and with which password is pgherd's; checksums have a key of their own. */
export const initdbOwned: OwnedOptions = {
  program: "initdb",
  long: [
    ..."pgdata pwfile pwprompt username auth auth-host auth-local".split(" "),
    ..."data-checksums no-data-checksums no-sync sync-only show version help".split(" "),
  ],
  short: "DWUAkNSsV",
};

/** pg_basebackup: source, target, format and how WAL comes along are pgherd's. */
export const basebackupOwned: OwnedOptions = {
  program: "pg_basebackup",
  long: [
    ..."pgdata format target write-recovery-conf wal-method slot create-slot no-slot checkpoint".split(" "),
    ..."no-sync no-manifest incremental progress verbose version help dbname host port username".split(" "),
    ..."no-password password gzip compress label status-interval no-clean".split(" "),
  ],
  short: "DFtRXSCcNPvVdhpUwWzZlsnI",
};

/** Why an argument cannot be passed on, or null. */
export function optionProblem(argument: string, owned: OwnedOptions): string | null {
  const long = /^--([a-z0-9-]+)/.exec(argument)?.[1];
  // getopt accepts any unambiguous beginning of a long name.
  if (
    long !== undefined &&
    owned.long.some((name) => name === long || (long.length > 2 && name.startsWith(long)))
  )
    return `--${long} cannot be set here: pgherd decides it`;
  if (long !== undefined) return null;
  const short = /^-([A-Za-z])/.exec(argument)?.[1];
  if (short !== undefined && owned.short.includes(short))
    return `-${short} cannot be set here: pgherd decides it`;
  if (short !== undefined) return null;
  return `expected an option of ${owned.program} in one piece, such as --name=value`;
}

/** A list of extra arguments for a program of PostgreSQL, each option with its value in one entry. */
export function programOptions(owned: OwnedOptions, facts: FieldFacts) {
  return z
    .array(z.string().min(1).max(4096))
    .max(50)
    .superRefine((list, context) => {
      list.forEach((argument, index) => {
        const message = optionProblem(argument, owned);
        if (message !== null) context.addIssue({ code: "custom", path: [index], message });
      });
    })
    .meta(facts);
}
