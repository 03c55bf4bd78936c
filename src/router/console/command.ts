import { constantOf, type Caller } from "./constants.ts";
import { orderIn, type Order } from "./order.ts";
import { Refusal } from "./refusal.ts";
import type { Table } from "./table.ts";
import type { Word } from "./words.ts";

/** What `SHOW` lists. */
const tableNames = [
  "clients",
  "config",
  "databases",
  "help",
  "lists",
  "pinned",
  "pool_nodes",
  "pool_version",
  "pools",
  "routers",
  "servers",
  "state",
  "stats",
  "stats_averages",
  "stats_totals",
  "totals",
  "users",
  "version",
  "vips",
] as const;
export type TableName = (typeof tableNames)[number];

/** A command of the console. */
export type ConsoleCommand =
  | { readonly kind: "show"; readonly table: TableName }
  /** A question drivers ask at the start, answered from what the console is. */
  | { readonly kind: "constant"; readonly tag: "SHOW" | "SELECT 1"; readonly table: Table }
  /** Taken and without effect: SET, DISCARD, transaction control. `transaction`: whether one is open afterwards. */
  | { readonly kind: "nothing"; readonly tag: string; readonly transaction: boolean | null }
  | { readonly kind: "order"; readonly order: Order };

const withoutEffect: Readonly<
  Record<string, { readonly tag: string; readonly transaction: boolean | null }>
> = {
  SET: { tag: "SET", transaction: null },
  RESET: { tag: "RESET", transaction: null },
  DISCARD: { tag: "DISCARD ALL", transaction: null },
  DEALLOCATE: { tag: "DEALLOCATE", transaction: null },
  BEGIN: { tag: "BEGIN", transaction: true },
  START: { tag: "START TRANSACTION", transaction: true },
  COMMIT: { tag: "COMMIT", transaction: false },
  END: { tag: "COMMIT", transaction: false },
  ROLLBACK: { tag: "ROLLBACK", transaction: false },
  ABORT: { tag: "ROLLBACK", transaction: false },
};

/** What a command says. @throws Refusal 42601, 22023, 42704, 0A000 */
export function readCommand(words: readonly Word[], caller: Caller): ConsoleCommand {
  const verb = words[0]?.quote === null ? words[0].text.toUpperCase() : "";
  const order = orderIn(words);
  if (order !== null) return { kind: "order", order };
  const nothing = withoutEffect[verb];
  if (nothing !== undefined) return { kind: "nothing", ...nothing };
  const rest = words.slice(1).map((word) => word.text.toLowerCase());
  if (verb === "SHOW" || verb === "SELECT") {
    const table = verb === "SHOW" ? tableNames.find((name) => name === rest.join(" ")) : undefined;
    if (table !== undefined) return { kind: "show", table };
    const constant = constantOf(verb, rest, caller);
    if (constant !== null)
      return { kind: "constant", tag: verb === "SHOW" ? "SHOW" : "SELECT 1", table: constant };
    if (verb === "SHOW")
      throw new Refusal("42704", `there is nothing to show under "${rest.join(" ")}"`, "SHOW HELP");
  }
  throw new Refusal(
    verb === "SELECT" || /^(INSERT|UPDATE|DELETE|WITH|TABLE|VALUES|CREATE|COPY)$/.test(verb)
      ? "0A000"
      : "42601",
    `"${(words[0]?.text ?? "").slice(0, 40)}" is no command of this console`,
    "This is the router's console, not a database: SHOW HELP lists its commands.",
  );
}
