import { z } from "zod";
import type { V1Route } from "./route.ts";
import * as shape from "./schemas.ts";

/** Shapes that have a name of their own in the description. */
const named = new Map<z.ZodType, string>([
  [shape.fault, "Fault"],
  [shape.status, "ClusterStatus"],
  [shape.node, "Node"],
  [shape.history, "History"],
  [shape.events, "Events"],
  [shape.decisions, "Decisions"],
  [shape.reachability, "Reachability"],
  [shape.settings, "Settings"],
  [shape.settingsChange, "SettingsChange"],
  [shape.movePlan, "MovePlan"],
  [shape.moveOutcome, "MoveOutcome"],
]);

type Json = Readonly<Record<string, unknown>>;

/** The OpenAPI 3.1 description of the routes; the same for every agent of one version. */
export function openApiDocument(routes: readonly V1Route[]): Json {
  const paths: Record<string, Record<string, Json>> = {};
  for (const route of routes) (paths[route.path] ??= {})[route.method.toLowerCase()] = operation(route);
  return {
    openapi: "3.1.0",
    info: {
      title: "pgherd",
      version: "1",
      description:
        "The API of a pgherd agent. Reading is open; what changes something needs a token, a client certificate, or HTTP Basic over TLS or on the agent's own host. Every agent answers for the cluster; /v1/node, restart, reload and reinit concern the answering agent's node.",
    },
    paths,
    components: {
      schemas: Object.fromEntries([...named].map(([schema, name]) => [name, jsonSchema(schema, "output")])),
      securitySchemes: {
        token: { type: "http", scheme: "bearer" },
        basic: { type: "http", scheme: "basic" },
        certificate: { type: "mutualTLS" },
      },
    },
  };
}

function operation(route: V1Route): Json {
  const parameters = [...pathParameters(route), ...queryParameters(route)];
  const writes = route.method !== "GET";
  const body = writes ? jsonSchema(route.body, "input") : null;
  const takesBody = body !== null && Object.keys(body["properties"] ?? {}).length > 0;
  return {
    summary: route.summary,
    ...(parameters.length > 0 && { parameters }),
    ...(writes && (takesBody || body?.["additionalProperties"] !== false)
      ? { requestBody: { content: { "application/json": { schema: body } } } }
      : {}),
    responses: {
      "2XX": {
        description: "Done",
        ...(route.reply !== null && { content: { "application/json": { schema: reference(route.reply) } } }),
        ...(route.path === "/v1/stream" && { content: { "text/event-stream": {} } }),
      },
      default: {
        description: "Refused or failed; nothing was changed unless the detail says so",
        content: { "application/json": { schema: reference(shape.fault) } },
      },
    },
    ...(writes && { security: [{ token: [] }, { basic: [] }, { certificate: [] }] }),
  };
}

function pathParameters(route: V1Route): readonly Json[] {
  return route.path.endsWith("/{name}")
    ? [{ name: "name", in: "path", required: true, schema: { type: "string" } }]
    : [];
}

function queryParameters(route: V1Route): readonly Json[] {
  const properties = (jsonSchema(route.query, "input")["properties"] ?? {}) as Readonly<Record<string, Json>>;
  return Object.entries(properties).map(([name, schema]) => ({ name, in: "query", schema }));
}

function reference(schema: z.ZodType): Json {
  const name = named.get(schema);
  if (name !== undefined) return { $ref: `#/components/schemas/${name}` };
  if (schema instanceof z.ZodUnion)
    return { anyOf: schema.options.map((option) => reference(option as z.ZodType)) };
  return jsonSchema(schema, "output");
}

function jsonSchema(schema: z.ZodType, io: "input" | "output"): Json {
  return Object.fromEntries(
    Object.entries(z.toJSONSchema(schema, { io })).filter(([key]) => key !== "$schema"),
  );
}
