import { Fault, toFault } from "../values/fault.ts";
import { elapsedMs } from "../values/time.ts";
import type { ApiContext } from "./context.ts";
import { checkAccess, type Access, type ApiAuth } from "./credentials.ts";
import { faultReply, textReply, type ApiReply, type ApiRequest } from "./exchange.ts";
import { statusOf } from "./fault-status.ts";
import { healthPaths } from "./patroni/health.ts";
import { patroniRoutes } from "./patroni/routes.ts";
import { findRoute } from "./v1/route.ts";
import { v1Routes } from "./v1/routes.ts";

/** Answers one request; never throws. */
export async function dispatch(context: ApiContext, auth: ApiAuth, request: ApiRequest): Promise<ApiReply> {
  const own = request.path === "/v1" || request.path.startsWith("/v1/");
  const started = context.clock.now();
  let reply: ApiReply;
  try {
    reply = own ? await dispatchOwn(context, auth, request) : await dispatchPatroni(context, auth, request);
  } catch (thrown) {
    const fault = toFault(thrown);
    if (fault.code === "INTERNAL")
      context.log("error", "api.defect", {
        path: request.path,
        message: fault.message,
        stack: stackOf(fault),
      });
    reply = own ? faultReply(fault) : textReply(statusOf(fault.code), faultText(fault));
  }
  if (!isReading(request.method))
    // Between agents, once a second for as long as the DCS is away.
    context.log(request.path === "/v1/grant" ? "debug" : "info", "api.write", {
      method: request.method,
      path: request.path,
      remote: request.remote.address,
      status: reply.kind === "whole" ? reply.status : 200,
      ms: Math.round(elapsedMs(started, context.clock.now())),
    });
  return reply;
}

async function dispatchOwn(context: ApiContext, auth: ApiAuth, request: ApiRequest): Promise<ApiReply> {
  const found = findRoute(v1Routes, request.method === "HEAD" ? "GET" : request.method, request.path);
  if (found === null)
    throw new Fault("NOT_FOUND", `There is no ${request.path}`, { hint: "See /v1/openapi.json." });
  if (!("route" in found)) return wrongMethod(request, found);
  if (found.route.method !== "GET" || found.route.guarded === true) {
    const denial = ownDenial(checkAccess(request, auth));
    if (denial !== null) return denial;
  }
  return found.route.serve(context, request, found.name);
}

function dispatchPatroni(
  context: ApiContext,
  auth: ApiAuth,
  request: ApiRequest,
): ApiReply | Promise<ApiReply> {
  const bare = request.method === "HEAD" || (request.method === "OPTIONS" && request.path in healthPaths);
  const method = bare ? "GET" : request.method;
  const there = patroniRoutes.filter((route) => route.path === request.path);
  const route = there.find((candidate) => candidate.method === method);
  if (route === undefined) {
    if (there.length > 0)
      return wrongMethod(
        request,
        there.map((candidate) => candidate.method),
      );
    return faultReply(
      new Fault("NOT_FOUND", `There is no ${request.path}`, {
        hint: "See /v1/openapi.json and docs/reference/api.md.",
      }),
    );
  }
  if (route.method !== "GET") {
    const denial = patroniDenial(checkAccess(request, auth));
    if (denial !== null) return denial;
  }
  return route.handle(context, request);
}

function isReading(method: string): boolean {
  return method === "GET" || method === "HEAD" || method === "OPTIONS";
}

function wrongMethod(request: ApiRequest, methods: readonly string[]): ApiReply {
  const fault = new Fault("REQUEST_INVALID", `${request.path} does not take ${request.method}`, {
    hint: `It takes ${methods.join(", ")}.`,
  });
  return { ...faultReply(fault), status: 405, headers: { allow: methods.join(", ") } };
}

const challenge = { "www-authenticate": 'Bearer, Basic realm="pgherd"' };

/** The refusal on the API's own paths; null when access is granted. */
function ownDenial(access: Access): ApiReply | null {
  switch (access) {
    case "granted":
      return null;
    case "missing":
      return denied(401, "This needs credentials", tokenHint);
    case "wrong":
      return denied(401, "The credentials are not valid", tokenHint);
    case "exposed":
      return denied(403, "A password over an unencrypted network is not accepted", {
        hint: "Send the token as `Authorization: Bearer`, use https, or ask from the agent's own host.",
      });
    case "foreign":
      return denied(403, "A page of another origin may not change this cluster", {});
  }
}

const tokenHint = {
  hint: "Send `Authorization: Bearer TOKEN`; the token stands in the state directory's secrets.json of every node.",
};

function denied(status: 401 | 403, message: string, parts: { readonly hint?: string }): ApiReply {
  const reply = faultReply(new Fault("UNAUTHORIZED", message, parts));
  return status === 401 ? { ...reply, headers: challenge } : { ...reply, status };
}

/** The refusal on Patroni's paths; null when access is granted. */
function patroniDenial(access: Access): ApiReply | null {
  const basic = { "www-authenticate": 'Basic realm="pgherd"' };
  switch (access) {
    case "granted":
      return null;
    case "missing":
      return { ...textReply(401, "no auth header received"), headers: basic };
    case "wrong":
      return { ...textReply(401, "not authenticated"), headers: basic };
    case "exposed":
    case "foreign":
      return textReply(403, "Access is denied");
  }
}

function faultText(fault: Fault): string {
  return [fault.message, fault.detail].filter((part) => part !== null).join(": ");
}

function stackOf(fault: Fault): string {
  const { cause } = fault;
  return (cause instanceof Error ? cause.stack : fault.stack) ?? "";
}
