import type { Metric, Sample } from "../../system/exposition.ts";
import type { ProcessFigures } from "../../system/process-probe.ts";
import type { ListenerView, RouterSource } from "../console/source.ts";
import { pinReasons, type ListenerCounters } from "../sessions.ts";
import { healthOf, nodesOf, sessionStates } from "./figures.ts";

/** The metrics of one router, without the labels common to all (`scope`, `router`). */
export function routerMetrics(source: RouterSource, figures: ProcessFigures): readonly Metric[] {
  return [
    ...knowledgeMetrics(source),
    ...sessionMetrics(source),
    ...counterMetrics(source.listeners()),
    ...nodeMetrics(source),
    ...processMetrics(source, figures),
  ];
}

function knowledgeMetrics(source: RouterSource): readonly Metric[] {
  const topology = source.topology();
  const ageMs = source.topologyAgeMs();
  const seconds = ageMs === null ? Infinity : ageMs / 1000;
  return [
    gauge("healthy", "1 while it knows a primary and all its listeners listen.", [
      { value: healthOf(source) === null ? 1 : 0 },
    ]),
    gauge("primary_known", "1 while it knows who serves as primary.", [
      { value: topology.primary === null ? 0 : 1 },
    ]),
    gauge(
      "topology_age_seconds",
      "Seconds since what it knows of the cluster was last confirmed; +Inf before the first time.",
      [{ value: seconds }],
    ),
    gauge("token", "The highest fencing token it has seen; nothing below it is ever written to.", [
      { value: topology.highestToken ?? 0 },
    ]),
    gauge("gate", "1 for the phase of the planned move it takes part in; absent without one.", [
      ...(topology.gate === null ? [] : [{ labels: { phase: topology.gate.phase }, value: 1 }]),
    ]),
    gauge("paused", "1 while an operator holds sessions.", [{ value: source.pauses().length > 0 ? 1 : 0 }]),
    gauge(
      "listening",
      "1 while the listener takes clients.",
      source.listeners().map((each) => labelled({ listener: each.name }, each.listening ? 1 : 0)),
    ),
    gauge(
      "vip_held",
      "1 while this host holds the virtual address.",
      source
        .vips()
        .map((vip) => labelled({ address: vip.address, interface: vip.interface }, vip.held ? 1 : 0)),
    ),
    counter(
      "errors_total",
      "Faults it met since it started, by their code.",
      [...source.errors()].map(([code, value]) => labelled({ code }, value)),
    ),
  ];
}

/** One pass over the sessions, however many metrics come from it. */
function sessionMetrics(source: RouterSource): readonly Metric[] {
  const states = new Map<string, Map<string, number>>();
  for (const { name } of source.listeners())
    states.set(name, new Map(sessionStates.map((state) => [state, 0])));
  const pinned = new Map<string, number>(pinReasons.map((reason) => [reason, 0]));
  for (const view of source.sessions()) {
    const counts = states.get(view.listener);
    counts?.set(view.state, (counts.get(view.state) ?? 0) + 1);
    for (const reason of view.pinned) pinned.set(reason, (pinned.get(reason) ?? 0) + 1);
  }
  const times = source.routingTimes();
  return [
    gauge(
      "sessions",
      "Sessions by listener and state.",
      [...states].flatMap(([listener, counts]) =>
        [...counts].map(([state, value]) => labelled({ listener, state }, value)),
      ),
    ),
    gauge("streams", "Connections of the path `stream`: passed through without looking into them.", [
      { value: source.streams() },
    ]),
    gauge(
      "pinned_sessions",
      "Sessions that a move would cut, by the reason.",
      [...pinned].map(([reason, value]) => labelled({ reason }, value)),
    ),
    {
      name: "pgherd_router_routing_seconds",
      type: "histogram",
      help: "How long clients waited for a server: at their login, and when their session was moved.",
      samples: [
        ...times.buckets.map(({ le, count }) => ({
          suffix: "_bucket",
          labels: { le: String(le) },
          value: count,
        })),
        { suffix: "_bucket", labels: { le: "+Inf" }, value: times.count },
        { suffix: "_sum", value: times.sumSeconds },
        { suffix: "_count", value: times.count },
      ],
    },
  ];
}

const counterHelps: Readonly<Record<keyof ListenerCounters, readonly [name: string, help: string]>> = {
  accepted: ["accepted_total", "Connections accepted."],
  refused: [
    "refused_total",
    "Clients turned away: by a rule, a wrong password, a limit, or a broken start-up.",
  ],
  held: ["held_total", "Times a session was held at a movable point."],
  carried: ["carried_total", "Times a session went on at another server without its client noticing."],
  cut: ["cut_total", "Sessions ended by the router because they could not be carried."],
  failedTransactions: [
    "failed_transactions_total",
    "Transactions that a failover rolled back; their clients got 40001 and kept the connection.",
  ],
  unknownOutcomes: [
    "unknown_outcomes_total",
    "Commits of which nobody can say whether they took effect; their clients got 08007.",
  ],
  bytesFromClients: ["client_bytes_total", "Bytes that came from clients."],
  bytesFromServers: ["server_bytes_total", "Bytes that came from servers."],
  transactions: ["transactions_total", "Transactions that ended: the server was ready for the next."],
  queries: ["queries_total", "Statements that were completed."],
  selects: ["selects_total", "Statements that were completed and that PostgreSQL calls SELECT."],
};

function counterMetrics(listeners: readonly ListenerView[]): readonly Metric[] {
  return Object.entries(counterHelps).map(([key, [name, help]]) =>
    counter(
      name,
      help,
      listeners.map((each) =>
        labelled({ listener: each.name }, each.counters[key as keyof ListenerCounters]),
      ),
    ),
  );
}

function nodeMetrics(source: RouterSource): readonly Metric[] {
  const nodes = nodesOf(source);
  return [
    gauge(
      "node_open",
      "1 while a node gets new clients: it is there, and not detached.",
      nodes.map(({ name, role, open }) => labelled({ node: name, role }, open ? 1 : 0)),
    ),
    gauge(
      "node_sessions",
      "Sessions on a node.",
      nodes.map(({ name, traffic }) => labelled({ node: name }, traffic.sessions)),
    ),
    counter(
      "node_given_total",
      "Sessions that were put on a node.",
      nodes.map(({ name, traffic }) => labelled({ node: name }, traffic.given)),
    ),
    ...(["transactions", "queries", "selects"] as const).map((what) =>
      counter(
        `node_${what}_total`,
        `As ${what}_total, by the node.`,
        nodes.map(({ name, traffic }) => labelled({ node: name }, traffic[what])),
      ),
    ),
    gauge(
      "node_lag_bytes",
      "Bytes of WAL a standby has not replayed; absent while unknown.",
      nodes.flatMap(({ name, lagBytes }) => (lagBytes === null ? [] : [labelled({ node: name }, lagBytes)])),
    ),
  ];
}

function processMetrics(source: RouterSource, figures: ProcessFigures): readonly Metric[] {
  const started = Date.parse(source.identity.startedAt) / 1000;
  const one = (value: number): readonly Sample[] => [{ value }];
  return [
    gauge("info", "1, with the version.", [labelled({ version: source.identity.version }, 1)]),
    {
      ...gauge("", "Resident memory of the router.", one(figures.residentBytes)),
      name: "process_resident_memory_bytes",
    },
    {
      ...counter("", "Processor time of the router.", one(figures.cpuSeconds)),
      name: "process_cpu_seconds_total",
    },
    {
      ...gauge("", "When the router started, in seconds since the epoch.", one(started)),
      name: "process_start_time_seconds",
    },
    gauge("heap_bytes", "JavaScript heap in use.", one(figures.heapBytes)),
    gauge("event_loop_delay_seconds", "Delay of the event loop since the last scrape.", [
      labelled({ quantile: "0.5" }, figures.delayMedian),
      labelled({ quantile: "0.99" }, figures.delay99),
      labelled({ quantile: "1" }, figures.delayMax),
    ]),
  ];
}

function gauge(name: string, help: string, samples: readonly Sample[]): Metric {
  return { name: `pgherd_router_${name}`, type: "gauge", help, samples };
}

function counter(name: string, help: string, samples: readonly Sample[]): Metric {
  return { name: `pgherd_router_${name}`, type: "counter", help, samples };
}

function labelled(labels: Readonly<Record<string, string>>, value: number): Sample {
  return { labels, value };
}
