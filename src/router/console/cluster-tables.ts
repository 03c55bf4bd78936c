import type { NodeRecord } from "../../cluster/records.ts";
import type { NodeName } from "../../values/names.ts";
import type { Topology } from "../topology.ts";
import type { RouterSource } from "./source.ts";
import { columnsOf, type Row, type Table } from "./table.ts";

const poolNodeColumns = columnsOf(
  "node_id hostname port status pg_status lb_weight role pg_role select_cnt load_balance_node replication_delay " +
    "replication_state replication_sync_state last_status_change",
);

/** A node as the records and the routes have it together. */
interface SeenNode {
  readonly name: NodeName;
  readonly host: string;
  readonly port: number;
  readonly record: NodeRecord | null;
}

/** The states in which PostgreSQL answers. */
const runs = new Set<string>(["running", "streaming", "replaying"]);

/**
 * `SHOW POOL_NODES`, in pgpool's columns and words, all of them text as there. status: `up`; `waiting` = up, and nobody was
 * sent there yet; `down` = gets no client: not there, or detached. select_cnt: statements that PostgreSQL called SELECT when it
 * completed them there. load_balance_node: whether readers are sent there.
 */
export function poolNodesTable(source: RouterSource): Table {
  const topology = source.topology();
  const nodes = seenNodes(source, topology);
  const weights = new Map(nodes.map(({ name }) => [name, weightOf(topology, name)]));
  const total = [...weights.values()].reduce((sum, weight) => sum + weight, 0);
  const counting = countingMembers(source);
  const rows = nodes.map(({ name, host, port, record }, index): Row => {
    const standby = topology.standbys.find((route) => route.node === name);
    const isPrimary = topology.primary?.node === name;
    const routed = isPrimary || standby !== undefined;
    const traffic = source.traffic(name);
    const open = routed && !topology.detached.has(name);
    const weight = weights.get(name) ?? 0;
    const answers = record === null ? routed : runs.has(record.state);
    const streams = standby?.streaming ?? record?.streaming ?? false;
    return [
      ...[String(index), host, String(port)],
      open ? (traffic.given > 0 ? "up" : "waiting") : "down",
      answers ? "up" : "down",
      (total === 0 ? 0 : weight / total).toFixed(6),
      isPrimary ? "primary" : "standby",
      answers ? (record?.role ?? (isPrimary ? "primary" : "standby")) : "unknown",
      String(traffic.selects),
      open && weight > 0 ? "true" : "false",
      isPrimary ? "0" : String(standby?.lagBytes ?? 0),
      isPrimary || !streams ? "" : "streaming",
      isPrimary || !streams ? "" : counting.has(name) ? "quorum" : "async",
      record === null ? "" : record.since.slice(0, 19).replace("T", " "),
    ];
  });
  return { columns: poolNodeColumns, rows };
}

/** By name, so that a node keeps its number as long as no node comes or goes. */
function seenNodes(source: RouterSource, topology: Topology): readonly SeenNode[] {
  const nodes = new Map<NodeName, SeenNode>();
  const routes = topology.primary === null ? topology.standbys : [topology.primary, ...topology.standbys];
  for (const { node, host, port } of routes) nodes.set(node, { name: node, host, port, record: null });
  for (const { value } of source.cluster()?.nodes.values() ?? [])
    nodes.set(value.name, { name: value.name, host: value.host, port: value.port, record: value });
  return [...nodes.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

function weightOf(topology: Topology, name: NodeName): number {
  const standby = topology.standbys.find((route) => route.node === name);
  return standby === undefined || standby.noloadbalance ? 0 : standby.weight;
}

/** The standbys whose answer a commit may wait for. */
function countingMembers(source: RouterSource): ReadonlySet<string> {
  const entries = source.cluster()?.durability.value ?? [];
  return new Set(entries.flatMap((entry) => entry.members.map((member) => member.split("/")[0] ?? "")));
}

const routerColumns = columnsOf(
  "name host listeners sessions:int4 pinned:int4 gate gate_state detached version written_at this",
);

/** `SHOW ROUTERS`: every router of the cluster that is heard. */
export function routersTable(source: RouterSource): Table {
  const rows = source
    .routers()
    .map((record): Row => [
      ...[record.name, record.host],
      record.listeners.map((each) => `${each.name} ${each.address}:${each.port} (${each.path})`).join(", "),
      record.sessions,
      record.pinned.reduce((sum, each) => sum + each.count, 0),
      ...[record.gate?.phase ?? null, record.gate?.state ?? null],
      ...[record.detached.join(", "), record.version, record.writtenAt],
      record.name === source.identity.router ? "yes" : "",
    ]);
  return { columns: routerColumns, rows };
}

/** `SHOW VIPS`: the virtual addresses in this router's file. */
export function vipsTable(source: RouterSource): Table {
  const rows = source
    .vips()
    .map((vip): Row => [
      vip.address,
      vip.interface,
      vip.bind,
      vip.held ? "yes" : "no",
      vip.holder,
      vip.problem,
    ]);
  return { columns: columnsOf("address interface bind held holder problem"), rows };
}
