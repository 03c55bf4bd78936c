import type { DurabilityEntry, NodeRecord } from "../../src/cluster/records.ts";
import { keys } from "../../src/dcs/layout.ts";
import { nodeOf, type DemoFile } from "../../src/demo/demo-file.ts";
import type { TestCluster } from "./cluster.ts";
import type { Ledger } from "./ledger.ts";
import { processesUnder, signal, waitFor } from "./process.ts";

/** What the store holds of a cluster, read linearizably without the product's code. */
export interface StoreReader {
  /** The text of a key below the cluster's; null = absent. */
  text(key: string): Promise<string | null>;
  /** The durability record. */
  record(): Promise<readonly DurabilityEntry[]>;
  /** What a node has published of itself. */
  node(name: string): Promise<NodeRecord>;
}

/** Reads by etcd's JSON gateway: fast enough to sample with. */
export async function storeReader(cluster: TestCluster): Promise<StoreReader> {
  const demo = await cluster.demo();
  const endpoint = demo.etcd.members[0]?.endpoint ?? "";
  const text = async (key: string): Promise<string | null> => {
    const response = await fetch(`${endpoint}/v3/kv/range`, {
      method: "POST",
      body: JSON.stringify({ key: btoa(`/service/${demo.cluster}/${key}`) }),
      signal: AbortSignal.timeout(5000),
    });
    if (!response.ok) throw new Error(`etcd answers ${response.status}`);
    const { kvs } = (await response.json()) as { kvs?: readonly { readonly value: string }[] };
    const value = kvs?.[0]?.value;
    return value === undefined ? null : Buffer.from(value, "base64").toString();
  };
  const parsed = async (key: string): Promise<unknown> => JSON.parse((await text(key)) ?? "null") as unknown;
  return {
    text,
    record: async () => ((await parsed(keys.durability)) ?? []) as readonly DurabilityEntry[],
    node: async (name) => (await parsed(keys.node(name as NodeRecord["name"]))) as NodeRecord,
  };
}

/** Whether every entry waits for somebody, by the test's own reading of the record. */
export function waitsForSomebody(record: readonly DurabilityEntry[]): boolean {
  return record.length > 0 && record.every((entry) => entry.required > 0);
}

/** Waits until the record is one entry that waits for `required` of exactly these nodes. */
export async function recorded(
  store: StoreReader,
  nodes: readonly string[],
  required: number,
): Promise<DurabilityEntry> {
  const wanted = [...nodes].sort().join(",");
  return waitFor(
    async () => {
      const record = await store.record();
      const [entry] = record;
      const members = entry?.members.map((member) => member.split("/")[0]).sort();
      if (record.length === 1 && members?.join(",") === wanted && entry?.required === required) return entry;
      throw new Error(JSON.stringify(record));
    },
    { timeoutMs: 60_000, what: `commits wait for ${required} of ${wanted || "nobody"}`, everyMs: 20 },
  );
}

/**
 * Reads the record until it says that nobody is waited for. @returns the latest moment (performance.now) at which it
 * certainly did not say so yet: a read that began then still found the cluster protected
 */
export async function watchUntilUnprotected(store: StoreReader): Promise<number> {
  let lastProtected = performance.now();
  await waitFor(
    async () => {
      const began = performance.now();
      if (!waitsForSomebody(await store.record())) return true;
      lastProtected = began;
      return false;
    },
    { timeoutMs: 20_000, what: "the cluster is recorded as unprotected", everyMs: 1 },
  );
  return lastProtected;
}

/** Rows sent after `from` and acknowledged before `until`. */
export function acknowledgedWithin(ledger: Ledger, from: number, until: number): readonly number[] {
  return ledger.acknowledged
    .filter(({ sentAt, at }) => sentAt > from && at < until)
    .map(({ number }) => number);
}

/** Stops every process of a node, or lets them go on; again and again until none is left that does otherwise. */
export async function signalHost(demo: DemoFile, name: string, what: "SIGSTOP" | "SIGCONT"): Promise<void> {
  const { dir } = nodeOf(demo, name);
  await waitFor(
    () => {
      const left = processesUnder(dir).filter(({ state }) => (state === "T") !== (what === "SIGSTOP"));
      for (const { pid } of left) signal(pid, what);
      return left.length === 0;
    },
    { timeoutMs: 10_000, what: `every process of ${name} has got ${what}`, everyMs: 2 },
  );
}

/** The names under which standbys stream from a node now. */
export async function streamingNames(cluster: TestCluster, primary: string): Promise<readonly string[]> {
  const rows = await cluster.sql(
    primary,
    "select application_name as name from pg_stat_replication where state = 'streaming' order by 1",
  );
  return rows.map((row) => String(row["name"]));
}

/** `synchronous_standby_names` as a new session has it. */
export async function synchronousNames(cluster: TestCluster, primary: string): Promise<string> {
  const [row] = await cluster.sql(primary, "show synchronous_standby_names");
  return String(row?.["synchronous_standby_names"]);
}

/** A health check of an agent: its status code. */
export async function health(cluster: TestCluster, node: string, path: string): Promise<number> {
  const { api } = nodeOf(await cluster.demo(), node);
  return (await fetch(`${api}${path}`, { signal: AbortSignal.timeout(5000) })).status;
}
