import type { ApiContext } from "../context.ts";
import { agentMetrics } from "./agent-metrics.ts";
import { exposition } from "../../system/exposition.ts";
import { patroniMetrics } from "./patroni-metrics.ts";

/** The body of `/metrics`: Patroni's metrics under Patroni's names, then pgherd's own. */
export function metricsText(context: ApiContext): string {
  const { cluster, node } = context.service.identity;
  return exposition([...patroniMetrics(context), ...agentMetrics(context)], { scope: cluster, name: node });
}
