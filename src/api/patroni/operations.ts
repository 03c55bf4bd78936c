import { parseDuration } from "../../config/duration.ts";
import { toFault, type Fault } from "../../values/fault.ts";
import type { ApiContext } from "../context.ts";
import { jsonReply, textReply, type WholeReply } from "../exchange.ts";
import { parseSchedule } from "./schedule.ts";
import { restartNow, type RestartOrder } from "./scheduled-restart.ts";

/** POST /restart: now, or at a time; only when every condition in the body holds. */
export async function restartReply(context: ApiContext, body: unknown): Promise<WholeReply> {
  const fields = asObject(body);
  if (fields === null) return textReply(400, "The body must be a JSON object");
  const order = readOrder(fields);
  if (typeof order === "string") return textReply(400, order);
  if (fields["schedule"] !== undefined) return scheduleReply(context, order, fields["schedule"]);
  try {
    return (await restartNow(context.service, order))
      ? textReply(200, "restarted successfully")
      : textReply(503, "restart conditions are not satisfied");
  } catch (thrown) {
    return textReply(503, restartProblem(context, toFault(thrown)));
  }
}

function scheduleReply(context: ApiContext, order: RestartOrder, time: unknown): WholeReply {
  if (context.service.local().paused) return textReply(500, "Can't schedule restart in the paused state");
  const schedule = parseSchedule(time, "restart", context.clock.wall());
  if (schedule.kind === "refused") return textReply(schedule.status, schedule.text);
  return context.restart.schedule(order, schedule.iso)
    ? textReply(202, "Restart scheduled")
    : textReply(409, "Another restart is already scheduled");
}

/** The conditions, or what is wrong with them. */
function readOrder(fields: Readonly<Record<string, unknown>>): RestartOrder | string {
  const known = ["schedule", "role", "postgres_version", "timeout", "restart_pending"];
  const unknown = Object.keys(fields).find((key) => !known.includes(key));
  if (unknown !== undefined) return `Unknown filter for the scheduled restart: ${unknown}`;
  const role = readRole(fields["role"]);
  if (role === undefined) return "PostgreSQL role should be either primary, standby_leader, or replica";
  const olderThan = readVersion(fields["postgres_version"]);
  if (olderThan === undefined) return "Invalid PostgreSQL version, expected a form such as 15.4 or 9.6.24";
  const timeoutMs = readTimeout(fields["timeout"]);
  if (timeoutMs === undefined) return "Timeout should be a positive number of seconds";
  return {
    input: {
      ifPending: isTrue(fields["restart_pending"]),
      role: role === "standby_leader" ? "standby" : role,
      timeoutMs,
    },
    // There are no standby clusters, so nobody leads one: a condition that never holds.
    olderThan: role === "standby_leader" ? 0 : olderThan,
    shown: Object.fromEntries(Object.entries(fields).filter(([key]) => key !== "schedule")),
  };
}

function readRole(value: unknown): "primary" | "standby" | "standby_leader" | null | undefined {
  if (value === undefined || value === null) return null;
  if (value === "primary" || value === "master") return "primary";
  if (value === "standby_leader") return value;
  return value === "replica" ? "standby" : undefined;
}

/** PostgreSQL's number for a version text: `15.4` is 150004. */
function readVersion(value: unknown): number | null | undefined {
  if (value === undefined || value === null) return null;
  const match = typeof value === "string" ? /^(\d{1,2})\.(\d{1,2})(?:\.(\d{1,2}))?$/.exec(value) : null;
  if (match === null) return undefined;
  const [major, minor, patch] = [Number(match[1]), Number(match[2]), Number(match[3] ?? 0)];
  if (major >= 10) return match[3] === undefined ? major * 10_000 + minor : undefined;
  return major * 10_000 + minor * 100 + patch;
}

function readTimeout(value: unknown): number | null | undefined {
  if (value === undefined || value === null) return null;
  const ms = typeof value === "number" || typeof value === "string" ? parseDuration(value) : undefined;
  return ms === undefined || ms <= 0 ? undefined : ms;
}

function isTrue(value: unknown): boolean {
  return value === true || (typeof value === "string" && /^(true|on|yes|1)$/i.test(value));
}

function restartProblem(context: ApiContext, fault: Fault): string {
  if (fault.code === "OPERATION_RUNNING") return busyText(context);
  if (fault.code === "TIMEOUT") return "postgres is still starting";
  return `restart failed (${fault.message})`;
}

/** POST /reinitialize: copies this node anew. */
export async function reinitializeReply(context: ApiContext, body: unknown): Promise<WholeReply> {
  const fields = asObject(body) ?? {};
  try {
    await context.service.reinit({ fromLeader: isTrue(fields["from_leader"]), dryRun: false });
    return textReply(200, "reinitialize started");
  } catch (thrown) {
    const fault = toFault(thrown);
    if (fault.code === "REINIT_OF_LEADER") return textReply(503, "I am the leader, can not reinitialize");
    if (fault.code === "NO_LEADER") return textReply(503, "Cluster has no leader, can not reinitialize");
    if (fault.code === "OPERATION_RUNNING") return textReply(503, busyText(context));
    return textReply(503, `reinitialize failed (${fault.message})`);
  }
}

/** POST /reload: unlike Patroni it answers when the files have been read, so that mistakes in them are told. */
export async function reloadReply(context: ApiContext): Promise<WholeReply> {
  try {
    await context.service.reload();
    return textReply(202, "reload scheduled");
  } catch (thrown) {
    return textReply(500, `reload failed (${toFault(thrown).message})`);
  }
}

/** DELETE /switchover: forgets a scheduled one. */
export async function cancelMoveReply(context: ApiContext): Promise<WholeReply> {
  try {
    await context.service.cancelMove();
    return textReply(200, "scheduled switchover deleted");
  } catch (thrown) {
    return toFault(thrown).code === "NOT_FOUND"
      ? textReply(404, "no switchover is scheduled")
      : textReply(409, "something went wrong");
  }
}

/** PATCH and PUT /config: changes the cluster settings; answers with all that is set. */
export async function settingsReply(
  context: ApiContext,
  method: "PATCH" | "PUT",
  body: unknown,
): Promise<WholeReply> {
  if (asObject(body) === null || body === undefined) return textReply(400, "The body must be a JSON object");
  const options = { dryRun: false, version: null };
  try {
    const change =
      method === "PATCH"
        ? await context.service.patchSettings(body, options)
        : await context.service.replaceSettings(body, options);
    return jsonReply(200, change.view.stored);
  } catch (thrown) {
    const fault = toFault(thrown);
    const text = [fault.message, fault.detail].filter((part) => part !== null).join(": ");
    if (fault.code === "DCS_CONFLICT") return textReply(409, text);
    if (fault.code === "CONFIG_INVALID") return textReply(400, text);
    return textReply(method === "PATCH" ? 503 : 502, text);
  }
}

function busyText(context: ApiContext): string {
  return `${context.service.local().record.operation?.kind ?? "another operation"} already in progress`;
}

/** A JSON object; nothing at all counts as an empty one. */
function asObject(body: unknown): Readonly<Record<string, unknown>> | null {
  if (body === undefined) return {};
  return typeof body === "object" && body !== null && !Array.isArray(body)
    ? (body as Readonly<Record<string, unknown>>)
    : null;
}
