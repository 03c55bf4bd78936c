import { manifest, tar } from "./backup-targets.ts";
import type { Target } from "./runner.ts";
import { clientStream, serverStream } from "./session-targets.ts";
import { scramClient, scramServer, statements, storedPasswords } from "./text-targets.ts";
import { bodiesTarget, certificates, frames, proxyHeader, startup } from "./wire-targets.ts";

/** All that reads what strangers send. */
export const targets: readonly Target[] = [
  startup,
  frames,
  clientStream,
  serverStream,
  bodiesTarget,
  scramServer,
  scramClient,
  storedPasswords,
  statements,
  proxyHeader,
  certificates,
  tar,
  manifest,
];

/** Texts that would take long if time grew faster than their length; each about `length` bytes. */
export function longTexts(length: number): string[] {
  const patterns = [
    "/*",
    "*/",
    "'",
    '"',
    "$a$ ",
    "$a",
    "--",
    "(",
    "((a.",
    "select ",
    ";",
    "set_config(",
    "a.",
    "\\",
    "e'",
  ];
  const blanks = " ".repeat(length);
  const padded = ["begin", "commit", "set", "select 1", "set a.b ="].map((start) => `${start}${blanks}x`);
  return padded.concat(patterns.map((pattern) => pattern.repeat(Math.ceil(length / pattern.length))));
}
