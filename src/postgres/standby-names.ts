/** `synchronous_standby_names` taken apart as PostgreSQL does. */
export interface StandbyNames {
  /** FIRST: the first of the list that are there are waited for; ANY: any of them. */
  readonly method: "FIRST" | "ANY";
  /** How many are waited for; 0 with an empty list. */
  readonly required: number;
  readonly names: readonly string[];
}

/** Takes a value apart; names without a method are FIRST 1, as PostgreSQL has it. */
export function parseStandbyNames(value: string): StandbyNames {
  const form = /^\s*(?:(ANY|FIRST)\s+)?(\d+)\s*\((.*)\)\s*$/is.exec(value);
  const list = form?.[3] ?? value;
  const names = [...list.matchAll(/"((?:[^"]|"")*)"|[^\s,"]+/g)].map((match) =>
    (match[1] ?? match[0]).replaceAll('""', '"'),
  );
  const method = form?.[1]?.toUpperCase() === "ANY" ? "ANY" : "FIRST";
  return { method, required: names.length === 0 ? 0 : Number(form?.[2] ?? 1), names };
}

/** The `sync_priority` PostgreSQL gives a standby with this application_name: its place in a FIRST list, 1 in an ANY list, else 0. */
export function expectedPriority(names: StandbyNames, applicationName: string): number {
  const place = names.names.findIndex(
    (name) => name === "*" || name.toLowerCase() === applicationName.toLowerCase(),
  );
  if (place < 0) return 0;
  return names.method === "ANY" ? 1 : place + 1;
}
