import type { z } from "zod";
import type { RestoreWish, WishedState } from "../../agent/restore-port.ts";
import { Fault } from "../../values/fault.ts";
import { jsonReply } from "../exchange.ts";
import { toWire } from "../wire.ts";
import { noBody, route, type V1Route } from "./route.ts";
import * as shape from "./schemas-restores.ts";
import { noQuery } from "./schemas.ts";

/** Restores to directories of this node's host. */
export const restoreRoutes: readonly V1Route[] = [
  route({
    method: "POST",
    path: "/v1/restores",
    summary: "Restores a backup to a directory of this host, as a job; with dry_run the plan",
    query: noQuery,
    body: shape.restoreBody,
    reply: shape.restoreReply,
    handle: async ({ service }, { body }) => {
      const wish = wishOf(body);
      return body.dry_run
        ? jsonReply(200, toWire(await service.restores.plan(wish)))
        : jsonReply(202, toWire(await service.restores.start(wish)));
    },
  }),
  route({
    method: "GET",
    path: "/v1/restores",
    summary: "The restores this agent was asked for, newest last; needs credentials",
    guarded: true,
    query: noQuery,
    body: noBody,
    reply: shape.jobs,
    handle: ({ service }) => jsonReply(200, toWire(service.restores.list())),
  }),
  route({
    method: "GET",
    path: "/v1/restores/{name}",
    summary: "One of them, with its progress; needs credentials",
    guarded: true,
    query: noQuery,
    body: noBody,
    reply: shape.job,
    handle: ({ service }, { name }) => jsonReply(200, toWire(service.restores.job(name))),
  }),
  route({
    method: "DELETE",
    path: "/v1/restores/{name}",
    summary: "Calls a restore off; the same request goes on with what is there",
    query: noQuery,
    body: noBody,
    reply: shape.job,
    handle: ({ service }, { name }) => jsonReply(200, toWire(service.restores.cancel(name))),
  }),
  route({
    method: "POST",
    path: "/v1/recovery",
    summary: "Puts the whole cluster back to an earlier state: asked of its leader; with dry_run the plan",
    query: noQuery,
    body: shape.recoveryBody,
    reply: shape.recoveryReply,
    handle: async ({ service }, { body }) => {
      const { cluster } = service.restores;
      if (body.dry_run) return jsonReply(200, toWire(await cluster.plan(stateOf(body), body.jobs)));
      // A request that was made for another cluster, or for a directory, must not end this one's line.
      if (body.cluster !== service.identity.cluster)
        throw new Fault("REQUEST_INVALID", "The name of the cluster that goes back must be given", {
          detail: `This is ${service.identity.cluster}. Nothing was changed.`,
          hint: 'Send its name as "cluster", or "dry_run": true to see what it would do.',
        });
      return jsonReply(202, toWire(await cluster.start(stateOf(body), body.jobs)));
    },
  }),
  route({
    method: "GET",
    path: "/v1/recovery",
    summary: "The last recovery of the whole cluster, with how far it is; needs credentials",
    guarded: true,
    query: noQuery,
    body: noBody,
    reply: shape.recoveryPicture,
    handle: ({ service }) => {
      const last = service.restores.cluster.last();
      if (last === null) throw new Fault("NOT_FOUND", "The cluster was never restored to an earlier state");
      return jsonReply(200, toWire(last));
    },
  }),
  route({
    method: "DELETE",
    path: "/v1/recovery",
    summary: "Calls a recovery off, as long as the cluster is on its old line",
    query: noQuery,
    body: noBody,
    reply: shape.recoveryPicture,
    handle: async ({ service }) => jsonReply(200, toWire(await service.restores.cluster.cancel())),
  }),
];

function wishOf(body: z.output<typeof shape.restoreBody>): RestoreWish {
  const { dir, tablespaces, delta, verify, jobs, start } = body;
  return {
    ...stateOf(body),
    dir,
    tablespaces,
    tablespacesBelow: body.tablespaces_below,
    delta,
    verify,
    jobs,
    start,
  };
}

function stateOf({ backup, target, inclusive, timeline }: WishedState): WishedState {
  return { backup, target, inclusive, timeline };
}
