/** What `synchronous_standby_names` says, as PostgreSQL reads it. */
export interface SyncNames {
  readonly method: "any" | "first";
  readonly count: number;
  /** In lower case; `*` matches every name. */
  readonly names: readonly string[];
}

const memo = new Map<string, SyncNames | null>();

/** Reads the setting; null = no commit waits. @throws Error when PostgreSQL would refuse it */
export function parseSyncNames(text: string): SyncNames | null {
  let known = memo.get(text);
  if (known === undefined) {
    known = parse(text.trim());
    if (memo.size > 10_000) memo.clear();
    memo.set(text, known);
  }
  return known;
}

function parse(text: string): SyncNames | null {
  if (text === "") return null;
  const form = /^(?:(any|first)\s+)?(\d+)\s*\((.*)\)$/is.exec(text);
  if (form === null) return { method: "first", count: 1, names: list(text) };
  const method = form[1]?.toLowerCase() === "any" ? "any" : "first";
  return { method, count: Number(form[2]), names: list(form[3] ?? "") };
}

function list(text: string): string[] {
  const names: string[] = [];
  const item = /\s*(?:"((?:[^"]|"")*)"|([^\s",()]+))\s*(,|$)/gy;
  for (;;) {
    const found = item.exec(text);
    if (found === null) throw new Error(`synchronous_standby_names: ${text}`);
    names.push((found[1]?.replaceAll('""', '"') ?? found[2] ?? "").toLowerCase());
    if (found[3] === "") return names;
  }
}

/** The place of a name in the list from 1 on (always 1 with ANY); 0 = it does not count. */
export function priorityOf(names: SyncNames | null, applicationName: string): number {
  if (names === null) return 0;
  const place = names.names.findIndex((name) => name === "*" || name === applicationName.toLowerCase());
  return place < 0 ? 0 : names.method === "any" ? 1 : place + 1;
}
