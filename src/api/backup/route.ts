import type { IncomingMessage } from "node:http";
import type { z } from "zod";
import type { BackupService, ClusterBackups } from "../../backup/service.ts";
import { Fault } from "../../values/fault.ts";
import type { ApiReply, ApiRequest } from "../exchange.ts";
import type { Method } from "../v1/route.ts";

/** One request to a backup server as its handlers see it. */
export interface BackupRequest {
  readonly service: BackupService;
  readonly request: ApiRequest;
  readonly incoming: IncomingMessage;
  /** Parts of the path by their names. */
  readonly names: Readonly<Record<string, string>>;
}

/** One path of the API. `{name}` stands for one part of it, `{name...}` for all the rest. */
export interface BackupRoute {
  readonly method: Method | "HEAD";
  readonly path: string;
  readonly summary: string;
  /** Needs credentials although it only reads: it gives what is in the database. */
  readonly guarded: boolean;
  readonly handle: (asked: BackupRequest) => ApiReply | Promise<ApiReply>;
}

/** The route for a path; the methods there are when none fits; null when there is no such path. */
export function findBackupRoute(
  routes: readonly BackupRoute[],
  method: string,
  path: string,
):
  | { readonly route: BackupRoute; readonly names: Readonly<Record<string, string>> }
  | readonly string[]
  | null {
  const there = routes.flatMap((route) => {
    const names = matchPath(route.path, path);
    return names === null ? [] : [{ route, names }];
  });
  if (there.length === 0) return null;
  const wanted = [method, ...(method === "HEAD" ? ["GET"] : [])];
  for (const each of wanted) {
    const found = there.find(({ route }) => route.method === each);
    if (found !== undefined) return found;
  }
  return there.map(({ route }) => route.method);
}

/** The names in a path; null when it is another. */
function matchPath(pattern: string, path: string): Readonly<Record<string, string>> | null {
  const wanted = pattern.split("/");
  const given = path.split("/");
  const names: Record<string, string> = {};
  for (const [index, part] of wanted.entries()) {
    const name = /^\{(\w+)(\.\.\.)?\}$/.exec(part);
    const value = given[index];
    if (name?.[2] !== undefined) {
      const rest = given.slice(index).map(decoded);
      if (rest.length === 0 || rest.some((each) => each === null || each === "")) return null;
      return { ...names, [name[1] ?? ""]: rest.join("/") };
    }
    if (value === undefined) return null;
    if (name === null) {
      if (value !== part) return null;
      continue;
    }
    const text = decoded(value);
    if (text === null || text === "") return null;
    names[name[1] ?? ""] = text;
  }
  return given.length === wanted.length ? names : null;
}

function decoded(part: string): string | null {
  try {
    return decodeURIComponent(part);
  } catch {
    return null;
  }
}

/** The cluster the path names. @throws Fault NOT_FOUND */
export function clusterIn({ service, names }: BackupRequest): ClusterBackups {
  return service.cluster(names["cluster"] ?? "");
}

/** A body or query of the right shape. @throws Fault REQUEST_INVALID */
export function shaped<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const result = schema.safeParse(value ?? {});
  if (result.success) return result.data;
  const lines = result.error.issues.map((issue) => {
    const path = issue.path.map(String).join(".");
    return path === "" ? issue.message : `${path}: ${issue.message}`;
  });
  throw new Fault("REQUEST_INVALID", "The request is not understood", {
    detail: lines.slice(0, 20).join("; "),
    hint: "See docs/reference/backup-api.md.",
  });
}
