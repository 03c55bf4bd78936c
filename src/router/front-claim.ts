import { negotiate } from "../pgwire/startup.ts";
import { shareParameters } from "./backend-parameters.ts";
import type { Greeting } from "./front-greeting.ts";
import { Refusal } from "./refusal.ts";

/** Who a client says it is, and what it wants. */
export interface Claimed {
  readonly user: string;
  /** As the user when the client names none; "" = physical replication, which has none. */
  readonly database: string;
  readonly replication: "no" | "physical" | "logical";
  readonly parameters: ReadonlyMap<string, string>;
  readonly protocolMinor: number;
  readonly address: string;
  /** NegotiateProtocolVersion; null = the client is spoken to as it asked. */
  readonly answer: Buffer | null;
}

/** PostgreSQL cuts longer names off: a rule would then have looked at another name than the one that counts. */
const longestName = 63;

/** @throws {Refusal} the start-up message does not say what it must */
export function claimed(greeting: Extract<Greeting, { kind: "startup" }>): Claimed {
  const { major, minor } = greeting;
  const said = greeting.parameters;
  if (major !== 3)
    throw new Refusal(
      "0A000",
      `unsupported frontend protocol ${major}.${minor}: the router speaks 3.0 to 3.2`,
    );
  const user = said.get("user") ?? "";
  if (user === "") throw new Refusal("28000", "no PostgreSQL user name specified in startup packet");
  const replication = replicationOf(said.get("replication"));
  const named = said.get("database") ?? "";
  const database = replication === "physical" ? "" : named || user;
  for (const [what, name] of [
    ["user", user],
    ["database", database],
  ] as const)
    if (Buffer.byteLength(name) > longestName)
      throw new Refusal(
        what === "user" ? "28000" : "3D000",
        `the ${what} name is longer than ${longestName} bytes`,
      );
  const agreed = negotiate(greeting);
  return {
    user,
    database,
    replication,
    parameters: shareParameters(new Map([...said, ["user", user], ["database", named || user]])),
    protocolMinor: agreed.minor,
    address: greeting.address,
    answer: agreed.answer,
  };
}

/** As PostgreSQL reads it: `database`, or a boolean of which the beginning is enough. */
function replicationOf(value: string | undefined): Claimed["replication"] {
  if (value === undefined) return "no";
  if (value === "database") return "logical";
  const text = value.toLowerCase();
  const begins = (...words: readonly string[]): boolean => words.some((word) => word.startsWith(text));
  if (text !== "" && (begins("true", "yes") || text === "on" || text === "1")) return "physical";
  if (text !== "" && (begins("false", "no") || text === "of" || text === "off" || text === "0")) return "no";
  throw new Refusal(
    "22023",
    'invalid value for parameter "replication"',
    `The value is "${value.slice(0, 64)}".`,
  );
}
