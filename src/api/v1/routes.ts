import type { z } from "zod";
import type { RoutingOrder } from "../../agent/routing.ts";
import type { MoveInput } from "../../agent/service.ts";
import { Fault } from "../../values/fault.ts";
import { parseNodeName, parseToken } from "../../values/names.ts";
import type { ApiContext } from "../context.ts";
import { jsonReply, type ApiReply } from "../exchange.ts";
import { historyLine, nodePicture, toWire } from "../wire.ts";
import { openApiDocument } from "./openapi.ts";
import { noBody, route, type V1Route } from "./route.ts";
import { restoreRoutes } from "./routes-restores.ts";
import * as routing from "./schemas-routers.ts";
import * as shape from "./schemas.ts";

const reading: readonly V1Route[] = [
  route({
    method: "GET",
    path: "/v1/status",
    summary: "The cluster in one object",
    query: shape.noQuery,
    body: noBody,
    reply: shape.status,
    handle: ({ service }) => jsonReply(200, service.status()),
  }),
  route({
    method: "GET",
    path: "/v1/node",
    summary: "What this agent knows of its own host",
    query: shape.noQuery,
    body: noBody,
    reply: shape.node,
    handle: ({ service }) => jsonReply(200, toWire(nodePicture(service.local()))),
  }),
  route({
    method: "GET",
    path: "/v1/history",
    summary: "Ended timelines, oldest first",
    query: shape.noQuery,
    body: noBody,
    reply: shape.history,
    handle: ({ service }) => jsonReply(200, service.history().map(historyLine)),
  }),
  route({
    method: "GET",
    path: "/v1/events",
    summary: "What happened on this node, newest last",
    query: shape.limitQuery,
    body: noBody,
    reply: shape.events,
    handle: ({ service }, { query }) => jsonReply(200, service.events(query.limit)),
  }),
  route({
    method: "GET",
    path: "/v1/decisions",
    summary: "What this node decided, by which rule, from which facts; newest last",
    query: shape.limitQuery,
    body: noBody,
    reply: shape.decisions,
    handle: ({ service }, { query }) => jsonReply(200, service.decisions(query.limit)),
  }),
  route({
    method: "GET",
    path: "/v1/settings",
    summary: "The cluster settings: what was set, and what is in force",
    query: shape.noQuery,
    body: noBody,
    reply: shape.settings,
    handle: ({ service }) => jsonReply(200, service.settings()),
  }),
  route({
    method: "GET",
    path: "/v1/reachability",
    summary: "Whom this node reaches, tried now",
    query: shape.noQuery,
    body: noBody,
    reply: shape.reachability,
    handle: async ({ service }) => jsonReply(200, await service.reachability()),
  }),
  route({
    method: "GET",
    path: "/v1/verifiers/{name}",
    summary: "Between agents and routers: what PostgreSQL stores of a role's password; needs credentials",
    guarded: true,
    query: shape.noQuery,
    body: noBody,
    reply: routing.verifier,
    handle: async ({ service }, { name }) =>
      jsonReply(200, { role: name, verifier: await service.roleVerifier(name) }),
  }),
  route({
    method: "GET",
    path: "/v1/routers",
    summary: "The routers of the cluster, and what all of them are ordered",
    query: shape.noQuery,
    body: noBody,
    reply: routing.routers,
    handle: ({ service }) => {
      const { routers, orders } = service.routers();
      return jsonReply(200, {
        routers: routers.map(({ record, heardMs }) => ({
          ...(toWire(record) as object),
          heard_s: Number.isFinite(heardMs) ? Math.round(heardMs) / 1000 : null,
        })),
        orders: toWire(orders),
      });
    },
  }),
  route({
    method: "GET",
    path: "/v1/stream",
    summary: "Server-sent events: status, event, decision; `dropped` when the client was too slow",
    query: shape.noQuery,
    body: noBody,
    reply: null,
    handle: ({ stream }) => {
      stream.checkRoom();
      return { kind: "stream", begin: (response) => stream.follow(response) };
    },
  }),
  route({
    method: "GET",
    path: "/v1/openapi.json",
    summary: "This description",
    query: shape.noQuery,
    body: noBody,
    reply: null,
    handle: () => jsonReply(200, openApiDocument(v1Routes)),
  }),
];

const moving: readonly V1Route[] = [
  route({
    method: "POST",
    path: "/v1/switchover",
    summary: "Moves the primary from a healthy leader, now or at a time; with dry_run the plan",
    query: shape.noQuery,
    body: shape.switchoverBody,
    reply: shape.moveReply,
    handle: ({ service }, { body }) => move(service, body, { kind: "switchover", ...moveOf(body) }),
  }),
  route({
    method: "DELETE",
    path: "/v1/switchover",
    summary: "Forgets a scheduled switchover",
    query: shape.noQuery,
    body: noBody,
    reply: shape.nothing,
    handle: async ({ service }) => {
      await service.cancelMove();
      return jsonReply(200, { done: true });
    },
  }),
  route({
    method: "POST",
    path: "/v1/failover",
    summary: "Makes a node the primary when no healthy leader is there; with dry_run the plan",
    query: shape.noQuery,
    body: shape.failoverBody,
    reply: shape.moveReply,
    handle: ({ service }, { body }) => move(service, body, { kind: "failover", ...moveOf(body) }),
  }),
];

const settingsChanging: readonly V1Route[] = [
  route({
    method: "PATCH",
    path: "/v1/settings",
    summary: "Changes some cluster settings (JSON merge patch; null deletes)",
    query: shape.changeQuery,
    body: shape.settingsDocument,
    reply: shape.settingsChange,
    handle: async ({ service }, { query, body }) =>
      jsonReply(200, await service.patchSettings(body, changeOf(query))),
  }),
  route({
    method: "PUT",
    path: "/v1/settings",
    summary: "Replaces all cluster settings",
    query: shape.changeQuery,
    body: shape.settingsDocument,
    reply: shape.settingsChange,
    handle: async ({ service }, { query, body }) =>
      jsonReply(200, await service.replaceSettings(body, changeOf(query))),
  }),
  route({
    method: "POST",
    path: "/v1/pause",
    summary: "Pauses the cluster: nothing is promoted, demoted, started or stopped by itself",
    query: shape.changeQuery,
    body: noBody,
    reply: shape.settingsChange,
    handle: async ({ service }, { query }) =>
      jsonReply(200, await service.patchSettings({ pause: true }, changeOf(query))),
  }),
  route({
    method: "POST",
    path: "/v1/resume",
    summary: "Ends the pause",
    query: shape.changeQuery,
    body: noBody,
    reply: shape.settingsChange,
    handle: async ({ service }, { query }) =>
      jsonReply(200, await service.patchSettings({ pause: null }, changeOf(query))),
  }),
];

const nodeChanging: readonly V1Route[] = [
  route({
    method: "POST",
    path: "/v1/restart",
    summary: "Restarts this node's PostgreSQL",
    query: shape.noQuery,
    body: shape.restartBody,
    reply: shape.restartReply,
    handle: async ({ service }, { body }) => {
      const timeoutMs = body.timeout_s === null ? null : body.timeout_s * 1000;
      const restarted = await service.restart({ ifPending: body.if_pending, role: body.role, timeoutMs });
      return jsonReply(200, { restarted });
    },
  }),
  route({
    method: "POST",
    path: "/v1/reload",
    summary: "Reads this node's file and the cluster settings again",
    query: shape.noQuery,
    body: noBody,
    reply: shape.reloadReply,
    handle: async ({ service }) => {
      const { changed, pendingRestart } = await service.reload();
      return jsonReply(200, { changed, pending_restart: pendingRestart });
    },
  }),
  route({
    method: "POST",
    path: "/v1/reinit",
    summary: "Copies this node anew; answers when the copy has begun",
    query: shape.noQuery,
    body: shape.reinitBody,
    reply: shape.reinitReply,
    handle: async ({ service }, { body }) => {
      const { source } = await service.reinit({ fromLeader: body.from_leader, dryRun: body.dry_run });
      return jsonReply(body.dry_run ? 200 : 202, { source });
    },
  }),
  route({
    method: "POST",
    path: "/v1/grant",
    summary: "Between agents: promises a leader without the DCS to take nothing over for a while (failsafe)",
    query: shape.noQuery,
    body: shape.grantBody,
    reply: shape.grantReply,
    handle: async ({ service }, { body }) => {
      const holder = parseNodeName(body.holder);
      const token = parseToken(body.token);
      if (holder === undefined || token === undefined)
        throw new Fault("REQUEST_INVALID", "The holder or the token of the grant is not understood");
      await service.grant({ holder, token, holdMs: body.hold_ms });
      return jsonReply(200, { node: service.identity.node, node_id: service.local().record.nodeId, token });
    },
  }),
  route({
    method: "POST",
    path: "/v1/routing",
    summary: "An order for all routers: nodes without new clients, a pause",
    query: shape.noQuery,
    body: routing.routingBody,
    reply: routing.routingReply,
    handle: async ({ service }, { body }) =>
      jsonReply(200, toWire(await service.orderRouting(routingOrderOf(body)))),
  }),
  route({
    method: "DELETE",
    path: "/v1/nodes/{name}",
    summary: "Removes a node that no longer runs from the records",
    query: shape.dryRunQuery,
    body: noBody,
    reply: shape.nothing,
    handle: async ({ service }, { query, name }) => {
      await service.removeNode(name, { dryRun: query.dry_run });
      return jsonReply(200, { done: !query.dry_run });
    },
  }),
];

/** The API's own paths. What is not GET changes something and needs credentials. */
export const v1Routes: readonly V1Route[] = [
  ...reading,
  ...moving,
  ...settingsChanging,
  ...nodeChanging,
  ...restoreRoutes,
];

type MoveBody = z.output<typeof shape.switchoverBody> | z.output<typeof shape.failoverBody>;

function moveOf(body: MoveBody): Omit<MoveInput, "kind"> {
  return {
    leader: body.leader,
    candidate: body.candidate,
    scheduledAt: "scheduled_at" in body ? body.scheduled_at : null,
    acceptLoss: "accept_loss" in body && body.accept_loss,
  };
}

async function move(service: ApiContext["service"], body: MoveBody, input: MoveInput): Promise<ApiReply> {
  if (body.dry_run) return jsonReply(200, await service.planMove(input));
  const outcome = await service.move(input, body.timeout_s * 1000);
  return jsonReply(outcome.done ? 200 : 202, outcome);
}

/** How long a pause lasts that does not say it. */
const usualPauseS = 60;

function routingOrderOf({ order, node, for_s }: z.output<typeof routing.routingBody>): RoutingOrder {
  if (order === "resume") return { kind: order };
  if (order === "pause") return { kind: order, forMs: (for_s ?? usualPauseS) * 1000 };
  if (node === null) throw new Fault("REQUEST_INVALID", `The order ${order} needs a node`);
  return { kind: order, node };
}

function changeOf(query: z.output<typeof shape.changeQuery>): { dryRun: boolean; version: number | null } {
  return { dryRun: query.dry_run, version: query.version ?? null };
}
