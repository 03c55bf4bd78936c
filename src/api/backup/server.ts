import type { IncomingMessage, ServerResponse } from "node:http";
import type { Log } from "../../agent/context.ts";
import type { BackupService } from "../../backup/service.ts";
import { exposition } from "../../system/exposition.ts";
import { watchProcess } from "../../system/process-probe.ts";
import { Fault, toFault } from "../../values/fault.ts";
import type { Secret } from "../../values/secret.ts";
import { checkAccess } from "../credentials.ts";
import {
  faultReply,
  jsonReply,
  textReply,
  toApiRequest,
  type ApiReply,
  type ApiRequest,
} from "../exchange.ts";
import { sendReply, startListener, type ApiTls, type RunningListener } from "../listener.ts";
import { opensFor } from "./bytes.ts";
import { backupMetrics } from "./metrics.ts";
import { findBackupRoute } from "./route.ts";
import { backupRoutes } from "./routes.ts";

export interface BackupApiOptions {
  readonly service: BackupService;
  /** Address to listen on. */
  readonly listen: string;
  /** 0 = a free one. */
  readonly port: number;
  readonly tls: ApiTls | null;
  /** Good for everything. */
  readonly token: Secret;
  /** The token of a cluster's agents: good for what is about that cluster. null = not known. */
  readonly tokenOf: (cluster: string) => Secret | null;
  readonly log: Log;
}

/** A segment over a slow line takes a while. */
const requestMs = 120_000;

/** Starts the API of a backup server. @throws Fault PORT_OCCUPIED, CONFIG_UNREADABLE */
export async function startBackupApi(options: BackupApiOptions): Promise<RunningListener> {
  const { listen, port, tls, log } = options;
  const probe = watchProcess();
  const metrics = (): ApiReply => {
    const text = exposition(backupMetrics(options.service, probe.look()), {
      server: options.service.server.name,
    });
    return textReply(200, text, "text/plain; version=0.0.4; charset=utf-8");
  };
  const onRequest = (incoming: IncomingMessage, response: ServerResponse): void => {
    const request = toApiRequest(incoming, tls?.clientCaFile != null);
    answer(options, request, incoming, metrics)
      .catch((thrown: unknown) => {
        const fault = toFault(thrown);
        if (fault.code === "INTERNAL") log("error", "api.defect", { path: request.path, stack: fault.stack });
        return faultReply(fault);
      })
      .then((reply) => {
        if (request.method !== "GET" && request.method !== "HEAD")
          log("info", "api.write", {
            method: request.method,
            path: request.path,
            remote: request.remote.address,
            status: reply.kind === "whole" ? reply.status : 200,
          });
        sendReply(response, reply);
        // A body that was not read would be taken for the next request.
        if (!incoming.complete) response.once("finish", () => incoming.destroy());
      })
      .catch(() => response.destroy());
  };
  try {
    const listener = await startListener({ listen, port, tls, file: "backup file", requestMs, onRequest });
    return {
      ...listener,
      close: () => {
        probe.close();
        return listener.close();
      },
    };
  } catch (thrown) {
    probe.close();
    throw thrown;
  }
}

async function answer(
  options: BackupApiOptions,
  request: ApiRequest,
  incoming: IncomingMessage,
  metrics: () => ApiReply,
): Promise<ApiReply> {
  const { service } = options;
  const reads = request.method === "GET" || request.method === "HEAD";
  if (reads && request.path === "/metrics") return metrics();
  if (reads && request.path === "/health") return health(service);
  const found = findBackupRoute(backupRoutes, request.method, request.path);
  if (found === null)
    throw new Fault("NOT_FOUND", `There is no ${request.path}`, {
      hint: "See docs/reference/backup-api.md.",
    });
  if (!("route" in found))
    return {
      ...faultReply(
        new Fault("REQUEST_INVALID", `${request.path} does not take ${request.method}`, {
          hint: `It takes ${found.join(", ")}.`,
        }),
      ),
      status: 405,
      headers: { allow: found.join(", ") },
    };
  const { route, names } = found;
  if (route.guarded || !reads) {
    const denial = denied(options, request, names);
    if (denial !== null) return denial;
  }
  return route.handle({ service, request, incoming, names });
}

function health(service: BackupService): ApiReply {
  const problems = service.clusters().flatMap((name) => {
    const { problem } = service.cluster(name).status();
    return problem === null ? [] : [{ cluster: name, ...problem }];
  });
  return jsonReply(problems.length === 0 ? 200 : 503, { healthy: problems.length === 0, problems });
}

/** The refusal; null when the server's token came, or that of the cluster the request is about. */
function denied(
  options: BackupApiOptions,
  request: ApiRequest,
  names: Readonly<Record<string, string>>,
): ApiReply | null {
  const access = checkAccess(request, { token: () => options.token, basic: null });
  if (access === "granted") return null;
  if (
    access === "wrong" &&
    aboutClusters(options, request, names).some((cluster) => holds(options, request, cluster))
  )
    return null;
  const words = {
    missing: "This needs credentials",
    wrong: "The credentials are not valid here",
    exposed: "A password over an unencrypted network is not accepted",
    foreign: "A page of another origin may not change this server",
  };
  const hint =
    "Send `Authorization: Bearer TOKEN`: the server's own (api.token_file), or that of the cluster it is about.";
  const reply = faultReply(new Fault("UNAUTHORIZED", words[access], { hint }));
  if (access === "exposed" || access === "foreign") return { ...reply, status: 403 };
  return { ...reply, headers: { "www-authenticate": "Bearer" } };
}

function holds(options: BackupApiOptions, request: ApiRequest, cluster: string): boolean {
  return checkAccess(request, { token: () => options.tokenOf(cluster), basic: null }) === "granted";
}

/** The clusters whose token is enough for a request. */
function aboutClusters(
  { service }: BackupApiOptions,
  request: ApiRequest,
  names: Readonly<Record<string, string>>,
): readonly string[] {
  const { cluster, key, id } = names;
  const all = service.clusters();
  if (cluster !== undefined) return all.includes(cluster) ? [cluster] : [];
  if (key !== undefined) return all.filter((each) => opensFor(each, key));
  if (request.path === "/v1/objects")
    return all.filter((each) => opensFor(each, request.query.get("prefix") ?? ""));
  const job = id === undefined ? undefined : service.jobs().find((each) => each.id === id);
  // Of a job nobody knows, anybody who has a token is told that.
  if (job === undefined) return id === undefined ? [] : all;
  return job.cluster === null ? [] : [job.cluster];
}
