import type { ApiContext } from "../context.ts";
import { jsonReply, textReply, type ApiReply, type ApiRequest } from "../exchange.ts";
import { metricsText } from "../metrics/metrics.ts";
import { clusterDocument } from "./cluster-document.ts";
import { healthPaths, healthStatus, parseHealthQuery, type HealthPath } from "./health.ts";
import { moveReply } from "./moves.ts";
import { nodeDocument } from "./node-document.ts";
import {
  cancelMoveReply,
  reinitializeReply,
  reloadReply,
  restartReply,
  settingsReply,
} from "./operations.ts";
import { healthPicture } from "./picture.ts";

/** One of Patroni's paths. */
export interface PatroniRoute {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly path: string;
  readonly summary: string;
  readonly handle: (context: ApiContext, request: ApiRequest) => ApiReply | Promise<ApiReply>;
}

const noFailsafe = (): ApiReply => textReply(502, "Failsafe mode is not enabled");

const information: readonly PatroniRoute[] = [
  {
    method: "GET",
    path: "/patroni",
    summary: "This node, always 200",
    handle: (context) => jsonReply(200, nodeDocument(context)),
  },
  {
    method: "GET",
    path: "/cluster",
    summary: "All members with their roles, states and lags",
    handle: (context) => jsonReply(200, clusterDocument(context)),
  },
  {
    method: "GET",
    path: "/history",
    summary: "Ended timelines: number, position, reason, time, new leader",
    handle: ({ service }) =>
      jsonReply(
        200,
        service
          .history()
          .map((entry) => [entry.timeline, Number(entry.forkLsn), entry.reason, entry.at, entry.newLeader]),
      ),
  },
  {
    method: "GET",
    path: "/config",
    summary: "The cluster settings as stored; 502 when there are none",
    handle: ({ service }) => {
      const view = service.settings();
      return view.version === 0
        ? textReply(502, "The cluster settings are not in the DCS")
        : jsonReply(200, view.stored);
    },
  },
  {
    method: "GET",
    path: "/metrics",
    summary: "Prometheus metrics",
    handle: (context) => textReply(200, metricsText(context), "text/plain; version=0.0.4; charset=utf-8"),
  },
  {
    method: "GET",
    path: "/failsafe",
    summary: "502: failsafe works by grants (`/v1/grant`)",
    handle: noFailsafe,
  },
];

const operations: readonly PatroniRoute[] = [
  {
    method: "PATCH",
    path: "/config",
    summary: "Changes some cluster settings; null deletes one",
    handle: async (context, request) => settingsReply(context, "PATCH", await request.json()),
  },
  {
    method: "PUT",
    path: "/config",
    summary: "Replaces all cluster settings",
    handle: async (context, request) => settingsReply(context, "PUT", await request.json()),
  },
  {
    method: "POST",
    path: "/switchover",
    summary: "Moves the primary from a healthy leader, now or at `scheduled_at`",
    handle: async (context, request) => moveReply(context, "switchover", await request.json()),
  },
  {
    method: "DELETE",
    path: "/switchover",
    summary: "Forgets a scheduled switchover",
    handle: (context) => cancelMoveReply(context),
  },
  {
    method: "POST",
    path: "/failover",
    summary: "Makes `candidate` the primary when there is none",
    handle: async (context, request) => moveReply(context, "failover", await request.json()),
  },
  {
    method: "POST",
    path: "/restart",
    summary: "Restarts this node's PostgreSQL, now or at `schedule`",
    handle: async (context, request) => restartReply(context, await request.json()),
  },
  {
    method: "DELETE",
    path: "/restart",
    summary: "Forgets a scheduled restart",
    handle: ({ restart }) =>
      restart.cancel()
        ? textReply(200, "scheduled restart deleted")
        : textReply(404, "no restarts are scheduled"),
  },
  {
    method: "POST",
    path: "/reload",
    summary: "Reads the node file and the cluster settings again",
    handle: (context) => reloadReply(context),
  },
  {
    method: "POST",
    path: "/reinitialize",
    summary: "Copies this node anew",
    handle: async (context, request) => reinitializeReply(context, await request.json()),
  },
  {
    method: "POST",
    path: "/failsafe",
    summary: "502: failsafe works by grants (`/v1/grant`)",
    handle: noFailsafe,
  },
];

const healthSummaries: Readonly<Record<(typeof healthPaths)[HealthPath], string>> = {
  primary: "200 on the node that takes writes",
  leader: "200 on the node that takes writes",
  "standby-leader": "503: there are no standby clusters",
  replica: "200 on a running standby without the tag noloadbalance",
  "read-only": "200 on the primary and wherever `/replica` has it",
  health: "200 where PostgreSQL runs and answers",
  sync: "200 on a standby that has every acknowledged commit",
  quorum: "200 on a standby of a set of which enough members have every acknowledged commit",
  async: "200 on a standby that is neither",
  "read-only-sync": "200 on the primary and wherever `/sync` has it",
  "read-only-quorum": "200 on the primary and wherever `/quorum` has it",
  liveness: "200 while the agent's loop turns",
  readiness: "200 on the primary and on a streaming standby within the lag",
};

const health: readonly PatroniRoute[] = Object.entries(healthPaths).map(([path, question]) => ({
  method: "GET",
  path,
  summary: healthSummaries[question],
  handle: (context, request) => {
    const status = healthStatus(question, healthPicture(context.service), parseHealthQuery(request.query));
    const bare = request.method !== "GET" || question === "liveness" || question === "readiness";
    return bare ? textReply(status, "") : jsonReply(status, nodeDocument(context));
  },
}));

/** Patroni's paths. What is not GET needs credentials; health checks also answer to HEAD and OPTIONS. */
export const patroniRoutes: readonly PatroniRoute[] = [...health, ...information, ...operations];
