import { z } from "zod";
import { nearestWord } from "../../config/nearest.ts";
import { Fault } from "../../values/fault.ts";
import type { ApiContext } from "../context.ts";
import type { ApiReply, ApiRequest } from "../exchange.ts";

export type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

/** What a route is made of: routing, checking and the description all come from it. */
interface RouteParts<Query extends z.ZodType, Body extends z.ZodType> {
  readonly method: Method;
  /** At most the last segment may be `{name}`. */
  readonly path: string;
  readonly summary: string;
  /** Needs credentials although it only reads. */
  readonly guarded?: boolean;
  readonly query: Query;
  readonly body: Body;
  /** The shape of a successful reply; null = not a JSON object of ours. */
  readonly reply: z.ZodType | null;
  readonly handle: (
    context: ApiContext,
    input: { readonly query: z.output<Query>; readonly body: z.output<Body>; readonly name: string },
  ) => ApiReply | Promise<ApiReply>;
}

/** A route whose shapes have been forgotten by the compiler, so that all stand in one table. */
export interface V1Route {
  readonly method: Method;
  readonly path: string;
  readonly summary: string;
  readonly guarded?: boolean;
  readonly query: z.ZodType;
  readonly body: z.ZodType;
  readonly reply: z.ZodType | null;
  /** @throws Fault REQUEST_INVALID, REQUEST_TOO_LARGE, and what the agent throws */
  readonly serve: (context: ApiContext, request: ApiRequest, name: string) => Promise<ApiReply>;
}

/** The body of a request that has none; an empty object is let pass. */
export const noBody = z.strictObject({}).optional();

/** Makes a row of the table. */
export function route<Query extends z.ZodType, Body extends z.ZodType>(
  parts: RouteParts<Query, Body>,
): V1Route {
  return {
    ...parts,
    serve: async (context, request, name) => {
      const query = check(parts.query, plainQuery(request.query), "query");
      // Where every field has a default, no body is as good as an empty object.
      const sent = parts.method === "GET" ? undefined : await request.json();
      const body = check(parts.body, sent ?? (parts.body instanceof z.ZodObject ? {} : undefined), "body");
      return parts.handle(context, { query, body, name });
    },
  };
}

/** The route for a path, and the name in it; the methods there are when none fits; null when there is no such path. */
export function findRoute(
  routes: readonly V1Route[],
  method: string,
  path: string,
): { readonly route: V1Route; readonly name: string } | readonly Method[] | null {
  const there = routes.flatMap((candidate) => {
    const name = matchName(candidate.path, path);
    return name === null ? [] : [{ route: candidate, name }];
  });
  if (there.length === 0) return null;
  return there.find((match) => match.route.method === method) ?? there.map((match) => match.route.method);
}

/** The name in the path, empty when the route has none; null when the path is another. */
function matchName(pattern: string, path: string): string | null {
  if (!pattern.endsWith("/{name}")) return pattern === path ? "" : null;
  const prefix = pattern.slice(0, -"{name}".length);
  const rest = path.startsWith(prefix) ? path.slice(prefix.length) : "";
  if (rest === "" || rest.includes("/")) return null;
  try {
    return decodeURIComponent(rest);
  } catch {
    return null;
  }
}

function plainQuery(query: URLSearchParams): Readonly<Record<string, string>> {
  return Object.fromEntries(query);
}

function check<Schema extends z.ZodType>(schema: Schema, value: unknown, what: string): z.output<Schema> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const lines = result.error.issues.map((issue) => issueText(schema, issue));
  throw new Fault("REQUEST_INVALID", `The ${what} of the request is not understood`, {
    detail: lines.slice(0, 20).join("; "),
    hint: "See /v1/openapi.json or docs/reference/api.md.",
  });
}

function issueText(schema: z.ZodType, issue: z.core.$ZodIssue): string {
  if (issue.code === "unrecognized_keys" && schema instanceof z.ZodObject) {
    const known = Object.keys(schema.shape);
    return issue.keys
      .map((key) => {
        const near = nearestWord(key, known);
        return near === undefined ? `${key}: unknown` : `${key}: unknown; did you mean ${near}?`;
      })
      .join("; ");
  }
  const path = issue.path.map(String).join(".");
  return path === "" ? issue.message : `${path}: ${issue.message}`;
}
