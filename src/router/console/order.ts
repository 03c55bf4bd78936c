import { parseDuration } from "../../config/duration.ts";
import { parseNodeName, type NodeName } from "../../values/names.ts";
import { Refusal } from "./refusal.ts";
import type { Word } from "./words.ts";

/** A command that changes something. */
export type Order =
  /** `database` null = every session; the pause ends by itself after `forMs`. */
  | { readonly kind: "pause"; readonly database: string | null; readonly forMs: number }
  | { readonly kind: "resume"; readonly database: string | null }
  | { readonly kind: "reconnect"; readonly database: string | null }
  | { readonly kind: "kill"; readonly session: number }
  | { readonly kind: "kill-database"; readonly database: string }
  | { readonly kind: "detach" | "attach" | "drain"; readonly node: NodeName }
  | { readonly kind: "reload" | "shutdown" };

const defaultPauseMs = 30_000;
/** Longer than this nobody's driver waits; who needs more says it again. */
export const longestPauseMs = 600_000;

/** The order in the words of a command; null when its first word is none. @throws Refusal 42601, 22023 */
export function orderIn(words: readonly Word[]): Order | null {
  const verb = words[0]?.quote === null ? words[0].text.toUpperCase() : "";
  const rest = words.slice(1);
  switch (verb) {
    case "PAUSE":
      return pauseOf(rest);
    case "RESUME":
      return { kind: "resume", database: optional(verb, rest)?.text ?? null };
    case "RECONNECT":
      return { kind: "reconnect", database: optional(verb, rest)?.text ?? null };
    case "KILL":
    case "KILL_CLIENT":
      return killOf(verb, rest);
    case "DETACH":
      return { kind: "detach", node: nodeOf(verb, rest) };
    case "ATTACH":
      return { kind: "attach", node: nodeOf(verb, rest) };
    case "DRAIN":
      return { kind: "drain", node: nodeOf(verb, rest) };
    case "RELOAD":
      optional(verb, rest, 0);
      return { kind: "reload" };
    case "SHUTDOWN":
      // PgBouncer's words for a graceful end are taken too: there is no other here.
      if (/^(WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS)$/i.test(rest[0]?.text ?? "")) rest.shift();
      optional(verb, rest, 0);
      return { kind: "shutdown" };
    default:
      return null;
  }
}

function pauseOf(rest: readonly Word[]): Order {
  const at = rest.findIndex((word) => word.quote === null && /^for$/i.test(word.text));
  const database = optional("PAUSE", at < 0 ? rest : rest.slice(0, at))?.text ?? null;
  if (at < 0) return { kind: "pause", database, forMs: defaultPauseMs };
  const text = rest
    .slice(at + 1)
    .map((word) => word.text)
    .join("");
  const forMs = parseDuration(text);
  if (forMs === undefined || forMs === 0 || forMs > longestPauseMs)
    throw new Refusal(
      "22023",
      `a pause has an end: "${text}" is no duration from 1ms to ${longestPauseMs / 60_000}min`,
      "For example PAUSE FOR 10s; without FOR it ends after 30 s at the latest.",
    );
  return { kind: "pause", database, forMs };
}

function killOf(verb: string, rest: readonly Word[]): Order {
  const word = optional(verb, rest);
  if (word === null)
    throw new Refusal(
      "42601",
      `${verb} needs the number of a session or the name of a database`,
      "SHOW CLIENTS lists the sessions with their id.",
    );
  if (word.quote === null && /^\d{1,15}$/.test(word.text))
    return { kind: "kill", session: Number(word.text) };
  if (verb === "KILL_CLIENT") throw new Refusal("22023", `"${word.text}" is no number of a session`);
  return { kind: "kill-database", database: word.text };
}

function nodeOf(verb: string, rest: readonly Word[]): NodeName {
  const text = optional(verb, rest)?.text;
  const node = text === undefined ? undefined : parseNodeName(text);
  if (node !== undefined) return node;
  throw new Refusal("42601", `${verb} needs the name of a node`, "SHOW POOL_NODES lists the nodes.");
}

function optional(verb: string, rest: readonly Word[], most = 1): Word | null {
  if (rest.length <= most) return rest[0] ?? null;
  throw new Refusal("42601", `syntax error at or near "${rest[most]?.text ?? ""}" of ${verb}`, "SHOW HELP");
}
