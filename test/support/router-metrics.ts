import type { Metric } from "../../src/system/exposition.ts";

/** docs/reference/router-metrics.md, from the metrics themselves. */
export function metricsReference(metrics: readonly Metric[]): string {
  const rows = metrics.map((metric) => {
    const labels = new Set(metric.samples.flatMap((sample) => Object.keys(sample.labels ?? {})));
    return [
      `\`${metric.name}\``,
      metric.type,
      [...labels].map((each) => `\`${each}\``).join(" "),
      metric.help,
    ];
  });
  const table = [["metric", "type", "labels", "meaning"], ...rows];
  const widths = [0, 1, 2, 3].map((column) => Math.max(...table.map((row) => row[column]?.length ?? 0), 3));
  const line = (row: readonly string[]): string =>
    `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(" | ")} |`;
  return [
    "# Metrics of a router",
    "",
    "`GET /metrics` on the router's HTTP port (`metrics` in its file), in Prometheus' text format. Every sample has the labels",
    "`scope` (the cluster) and `router` (its name). No metric names a client, a user or a database.",
    "",
    line(table[0] ?? []),
    line(widths.map((width) => "-".repeat(width))),
    ...rows.map(line),
    "",
    "Beside it stand `GET /health` (200 while the router knows a primary and all its listeners listen, else 503 with the reason) and",
    "`GET /status` (the same figures as one JSON object). `GET /sessions` (one JSON object per line) and `POST /orders` need the",
    "cluster's API token as bearer token.",
    "",
  ].join("\n");
}
