import type { Target } from "./runner.ts";
import { scramClient, scramServer, statements, storedPasswords } from "./text-targets.ts";
import { bodiesTarget, certificates, frames, proxyHeader, startup } from "./wire-targets.ts";

/** All that reads what strangers send. */
export const targets: readonly Target[] = [
  startup,
  frames,
  bodiesTarget,
  scramServer,
  scramClient,
  storedPasswords,
  statements,
  proxyHeader,
  certificates,
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
  return patterns.map((pattern) => pattern.repeat(Math.ceil(length / pattern.length)));
}
