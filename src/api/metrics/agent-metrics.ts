import type { DiskFacts } from "../../postgres/disk.ts";
import { heldForMs } from "../../cluster/policy.ts";
import { servesAsPrimary } from "../patroni/health.ts";
import type { ApiContext } from "../context.ts";
import type { Metric, Sample } from "../../system/exposition.ts";

/** pgherd's own metrics: this node, the cluster as this node sees it, and this process. */
export function agentMetrics(context: ApiContext): readonly Metric[] {
  return [...nodeMetrics(context), ...clusterMetrics(context), ...processMetrics(context)];
}

function nodeMetrics({ service, events, stream }: ApiContext): readonly Metric[] {
  const local = service.local();
  return [
    gauge(
      "loop_age_seconds",
      "Seconds since the agent's loop last finished a round.",
      local.loopAgeMs / 1000,
    ),
    gauge(
      "dcs_age_seconds",
      "Seconds since the DCS last answered this node; +Inf before the first time.",
      local.dcsAgeMs === null ? Infinity : local.dcsAgeMs / 1000,
    ),
    gauge("dcs_reachable", "1 while this node reaches the DCS.", local.dcsReachable ? 1 : 0),
    gauge("lease_ttl_seconds", "Length of the leader lease.", local.ttlMs / 1000),
    gauge(
      "stop_seconds",
      "What ending PostgreSQL's processes took when it was measured on this machine.",
      (local.record.stopMs ?? NaN) / 1000,
    ),
    gauge(
      "lease_held_seconds",
      "How long a renewal counts here: the ttl less the drift of clocks and what a stop may take.",
      heldForMs(local.ttlMs, local.record.stopMs ?? 0) / 1000,
    ),
    gauge("leader", "1 while this node holds a live lease and serves.", local.leads ? 1 : 0),
    gauge(
      "writable",
      "1 while this node leads and its PostgreSQL takes writes.",
      servesAsPrimary(local) ? 1 : 0,
    ),
    gauge("paused", "1 while the cluster is paused.", local.paused ? 1 : 0),
    gauge("problem", "1 while something on this node needs a person.", local.record.problem === null ? 0 : 1),
    {
      name: "pgherd_node_state",
      type: "gauge",
      help: "1 for the state this node is in.",
      samples: [{ labels: { state: local.record.state }, value: 1 }],
    },
    ...diskMetrics(local.disk),
    gauge("stream_clients", "Clients that follow /v1/stream.", stream.size),
    {
      name: "pgherd_events_total",
      type: "counter",
      help: "Events on this node since the agent started.",
      samples: [...events.all()].map(([event, value]) => ({ labels: { event }, value })),
    },
  ];
}

function diskMetrics(disk: DiskFacts): readonly Metric[] {
  const known = (value: number | null): readonly Sample[] => (value === null ? [] : [{ value }]);
  return [
    {
      name: "pgherd_disk_state",
      type: "gauge",
      help: "1 for the state of the data and WAL volumes, the worse of the two: ok, stalled, full, read-only, failing or unknown.",
      samples: [{ labels: { state: disk.kind }, value: 1 }],
    },
    {
      name: "pgherd_disk_probe_seconds",
      type: "gauge",
      help: "How long the last small write to the data and WAL volumes took with its flush; absent before the first.",
      samples: known(disk.probeMs === null ? null : disk.probeMs / 1000),
    },
    {
      name: "pgherd_disk_probe_age_seconds",
      type: "gauge",
      help: "Seconds since such a write last ended; absent before the first.",
      samples: known(disk.ageMs === null ? null : disk.ageMs / 1000),
    },
    {
      name: "pgherd_disk_free_bytes",
      type: "gauge",
      help: "Room for PostgreSQL on the volume that has less; absent while unknown.",
      samples: known(disk.freeBytes),
    },
    gauge(
      "disk_reserve_held",
      "1 while the reserve for a full disk is there.",
      disk.reserve === "held" ? 1 : 0,
    ),
  ];
}

function clusterMetrics({ service }: ApiContext): readonly Metric[] {
  const status = service.status();
  const health = { ok: 2, degraded: 1, down: 0 };
  const perNode = (value: (node: (typeof status.nodes)[number]) => number | null): readonly Sample[] =>
    status.nodes.flatMap((node) => {
      const figure = value(node);
      return figure === null ? [] : [{ labels: { node: node.name }, value: figure }];
    });
  return [
    gauge("cluster_health", "2 = ok, 1 = degraded, 0 = down, as this node sees it.", health[status.health]),
    gauge(
      "cluster_protected",
      "1 while no loss of one node can lose a commit.",
      status.durability.protected ? 1 : 0,
    ),
    gauge("cluster_attention", "How many things need attention.", status.attention.length),
    gauge("token", "The fencing token in force.", status.token ?? 0),
    gauge("timeline", "The leader's timeline.", status.timeline ?? 0),
    {
      name: "pgherd_exposed_bytes",
      type: "gauge",
      help: "Bytes that the loss of the leader would cost now; absent while unknown.",
      samples: status.durability.exposed_bytes === null ? [] : [{ value: status.durability.exposed_bytes }],
    },
    {
      name: "pgherd_node_lag_bytes",
      type: "gauge",
      help: "Bytes a node is behind the leader; absent while unknown.",
      samples: perNode((node) => node.lag_bytes),
    },
    {
      name: "pgherd_node_replay_lag_bytes",
      type: "gauge",
      help: "Bytes a node has received but not replayed; absent while unknown.",
      samples: perNode((node) => node.replay_lag_bytes),
    },
    {
      name: "pgherd_node_heard_seconds",
      type: "gauge",
      help: "Seconds since a node was last heard.",
      samples: perNode((node) => node.heard_s),
    },
  ];
}

function processMetrics({ process, service }: ApiContext): readonly Metric[] {
  const figures = process.look();
  return [
    bare("process_resident_memory_bytes", "gauge", "Resident memory of the agent.", figures.residentBytes),
    bare("process_cpu_seconds_total", "counter", "Processor time of the agent.", figures.cpuSeconds),
    bare(
      "process_start_time_seconds",
      "gauge",
      "When the agent started, in seconds since the epoch.",
      Date.parse(service.local().startedAt) / 1000,
    ),
    gauge("heap_bytes", "JavaScript heap in use.", figures.heapBytes),
    {
      name: "pgherd_event_loop_delay_seconds",
      type: "gauge",
      help: "Delay of the event loop since the last scrape.",
      samples: [
        { labels: { quantile: "0.5" }, value: figures.delayMedian },
        { labels: { quantile: "0.99" }, value: figures.delay99 },
        { labels: { quantile: "1" }, value: figures.delayMax },
      ],
    },
  ];
}

function gauge(name: string, help: string, value: number): Metric {
  return bare(`pgherd_${name}`, "gauge", help, value);
}

function bare(name: string, type: Metric["type"], help: string, value: number): Metric {
  return { name, type, help, samples: [{ value }] };
}
