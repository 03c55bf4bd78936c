import { bestStreamingStandby, mayStream } from "../cluster/candidates.ts";
import { requiredIn, standbyNames } from "../cluster/durability.ts";
import { currentToken } from "../cluster/state.ts";
import type { PostgresFacts } from "../postgres/instance.ts";
import { Fault } from "../values/fault.ts";
import { formatLsn } from "../values/lsn.ts";
import { nextToken, type FencingToken, type NodeName } from "../values/names.ts";
import { isOpen, permission, releaseForShutdown } from "./act-leadership.ts";
import { dcsTimeoutMs } from "./context.ts";
import { startingNames } from "./durability-keeper.ts";
import type { AgentContext } from "./context.ts";
import type { Executor } from "./execution.ts";
import { proveLineage } from "./lineage.ts";
import { currentStanding, isDiverged, upstreamAddress } from "./observe.ts";
import { isOther, wentBack } from "./own-data.ts";
import { postgresSettings } from "./postgres-settings.ts";

/** P3: no process of the instance is left when this resolves. */
export const fence: Executor<{ kind: "fence" }> = async ({ context, decision }) => {
  const ms = await context.instance.kill();
  context.journal.event("fenced", true, `PostgreSQL was ended: ${decision.why}`, {
    ms: Math.round(ms),
    rule: decision.rule,
  });
};

/** Ends a PostgreSQL that somebody else started: politely first, it may be a person's. */
export const stopForeign: Executor<{ kind: "stop-foreign" }> = async ({ context }) => {
  await context.instance.stop("fast", 5000);
  context.journal.event(
    "foreign_start_stopped",
    true,
    "a PostgreSQL that was not started by pgherd was ended",
    {},
  );
};

/** Starts able to write: only the holder comes here, on its own timeline (P1). */
export const startPrimary: Executor<{ kind: "start-primary" }> = async ({ context }) => {
  const { instance, notebook, options } = context;
  try {
    await prepareToWrite(context, await instance.inspect());
    notebook.startedToWrite = true;
    await instance.startPrimary(postgresSettings(context), options.startTimeoutMs, permission(context));
    notebook.succeeded("start");
    context.journal.event("postgres_started", true, "PostgreSQL runs as primary", { role: "primary" });
    await instance.ensureRoles();
  } catch (thrown) {
    notebook.failed("start", 500, 5000);
    throw thrown;
  }
};

/**
 * P6: what commits wait for is in the configuration before the start; and after a crash no client sees what the recorded
 * standbys may not have yet.
 */
async function prepareToWrite(context: AgentContext, facts: PostgresFacts): Promise<void> {
  const { keeper, notebook, membership, durability } = context;
  const standing = keeper.standing();
  if (standing.kind !== "mine") throw new Fault("LOST_LEADERSHIP", "This node does not hold the lease.");
  if ((await wentBack(context)) || isOther(context))
    throw new Fault("POSTGRES_START_FAILED", "The data was put back to an earlier state: it must not lead.", {
      hint: "Let another node take over; or accept the loss: pgherd failover --to NODE --accept-loss.",
    });
  notebook.synchronousNames = startingNames(context, standing.lease.token);
  durability.forget();
  const crashed = facts.kind === "stopped" && !facts.control.clusterState.startsWith("shut down");
  if (crashed && requiredIn(notebook.synchronousNames) > 0) await membership.setClosed(true);
}

/** Starts read-only. */
export const startStandby: Executor<{ kind: "start-standby"; upstream: NodeName | null }> = async ({
  context,
  action,
}) => {
  await beginStandby(context, action.upstream);
};

/** Recovery of a standby is waited for this long; then the rounds look after it (F-11). */
const standbyWaitMs = 5000;

export async function beginStandby(
  context: AgentContext,
  upstream: NodeName | null,
  provenFor: FencingToken | null = null,
): Promise<void> {
  const { instance, notebook, options, membership } = context;
  try {
    const streams = upstream !== null && mayStream(context.options.tags);
    const proven = (await wentBack(context)) ? null : provenFor;
    const address = streams ? upstreamAddress(context, upstream, proven) : null;
    notebook.startedToWrite = false;
    notebook.synchronousNames = standbyNames(context.settings().durability);
    await membership.setClosed(false);
    const waitMs = Math.min(standbyWaitMs, options.startTimeoutMs);
    const outcome = await instance.startStandby(address, postgresSettings(context), waitMs);
    notebook.upstream = address === null ? null : upstream;
    notebook.proven =
      address === null || proven === null || upstream === null ? null : { leader: upstream, token: proven };
    notebook.succeeded("start");
    context.journal.event("postgres_started", true, `PostgreSQL runs as standby (${outcome})`, {
      role: "standby",
      upstream,
    });
  } catch (thrown) {
    notebook.failed("start", 1000, 10_000);
    throw thrown;
  }
}

/** Points the standby at its upstream; nothing to do when it already is. */
export const follow: Executor<{ kind: "follow"; upstream: NodeName | null }> = async ({
  context,
  action,
}) => {
  const { instance, notebook, journal } = context;
  const former = notebook.upstream;
  const provenFor = action.upstream === null ? null : await proveLineage(context, action.upstream);
  const address = action.upstream === null ? null : upstreamAddress(context, action.upstream, provenFor);
  if (action.upstream !== null && address === null) return;
  notebook.synchronousNames = standbyNames(context.settings().durability);
  // One that diverged is not connected: what it has too much would move its slot past the fork. It is examined next (F-04).
  if (provenFor !== null || !isDiverged(context)) await instance.follow(address, postgresSettings(context));
  notebook.upstream = action.upstream;
  notebook.proven =
    provenFor === null || action.upstream === null ? null : { leader: action.upstream, token: provenFor };
  notebook.ballot = null;
  if (former !== action.upstream && former !== undefined)
    journal.event("upstream_changed", true, `following ${action.upstream ?? "nobody"}`, {
      upstream: action.upstream,
      former,
    });
  if (address !== null) await reserve(context, action.upstream, address);
};

/** Makes the own slot on the upstream when it is not there yet: the leader makes it too, but maybe later. */
export async function reserve(
  context: AgentContext,
  upstream: NodeName | null,
  address: NonNullable<ReturnType<typeof upstreamAddress>>,
): Promise<void> {
  try {
    await context.instance.reserveSlot(address);
  } catch (thrown) {
    context.log("debug", "slot.reserve_failed", {
      upstream,
      message: thrown instanceof Error ? thrown.message : String(thrown),
    });
  }
}

/**
 * F2, in this order: a linearizable look, the promise made durable, the means to connect taken away, the receiver ended;
 * then measures, and publishes the position for the coming token.
 */
export const ballot: Executor<{ kind: "ballot"; token: FencingToken }> = async ({ context, action }) => {
  const { instance, notebook, membership, mirror, settings } = context;
  const state = await mirror.refresh(dcsTimeoutMs(settings().ttlMs));
  if (!isOpen(currentStanding(context)) || nextToken(currentToken(state)) !== action.token) return;
  const released = state.lease.value?.state === "released";
  await membership.promise(action.token, released ? "released" : "run-out");
  const position = await instance.stopReceiving(postgresSettings(context));
  notebook.upstream = null;
  notebook.proven = null;
  notebook.ballot = { token: action.token, ...position, recordVersion: state.durability.version };
  context.log("info", "ballot", {
    token: action.token,
    timeline: position.timeline,
    lsn: formatLsn(position.lsn),
  });
};

/** A restart that an operator asked for. */
export const restart: Executor<{ kind: "restart" }> = async ({ context, step }) => {
  const { instance, options, journal } = context;
  const facts = await instance.inspect();
  const wasPrimary = facts.kind === "running" && facts.sql?.inRecovery === false;
  try {
    if (wasPrimary) {
      step("checkpoint");
      await instance.checkpoint(600_000);
    }
    step("stopping");
    await instance.stop("fast", options.stopTimeoutMs);
    step("starting");
    if (wasPrimary) await prepareToWrite(context, await instance.inspect());
    context.notebook.startedToWrite = wasPrimary;
    if (wasPrimary)
      await instance.startPrimary(postgresSettings(context), options.startTimeoutMs, permission(context));
    else {
      const upstream = context.notebook.upstream ?? null;
      // The same WAL comes back: what was proven before the restart still is.
      const provenFor = context.notebook.proven?.token ?? null;
      await instance.startStandby(
        upstream === null ? null : upstreamAddress(context, upstream, provenFor),
        postgresSettings(context),
        options.startTimeoutMs,
      );
    }
  } catch (thrown) {
    settle(context, "restart", thrown);
    throw thrown;
  }
  settle(context, "restart", null);
  journal.event("postgres_restarted", true, "PostgreSQL was restarted as asked", {
    role: wasPrimary ? "primary" : "standby",
  });
};

/** How long the checkpoint before the stop may take; the stop itself does another. */
export const shutdownCheckpointMs = 30_000;

/** The agent ends: PostgreSQL stops cleanly, and a leader releases the lease to the best standby. */
export const shutdown: Executor<{ kind: "shutdown" }> = async ({ context, step }) => {
  const { instance, options, keeper } = context;
  const facts = await instance.inspect();
  const leads = keeper.standing().kind === "mine";
  const primary = facts.kind === "running" && facts.sql?.inRecovery === false;
  const candidate = leads && primary ? bestNow(context) : null;
  if (leads && primary) {
    step("checkpoint");
    await instance.checkpoint(shutdownCheckpointMs).catch((thrown: unknown) => {
      context.log("warn", "postgres.checkpoint_failed", { message: String(thrown) });
    });
  }
  step("stopping");
  if (facts.kind === "running") await instance.stop("fast", options.stopTimeoutMs);
  if (leads) await releaseForShutdown(context, candidate);
  context.journal.event("postgres_stopped", true, "PostgreSQL was stopped with the agent", {});
  settle(context, "shutdown", null);
};

function bestNow(context: AgentContext): NodeName | null {
  const others = [...(context.mirror.state?.nodes.values() ?? [])].map(({ value }) => ({
    record: value,
    heardMs: context.mirror.heardMs(value.name, context.clock.now()),
  }));
  return bestStreamingStandby(
    {
      others,
      policy: context.settings(),
      location: context.options.location,
      standbys: context.notebook.standbys,
      standbysSeenAt: context.notebook.standbysSeenAt,
    },
    context.settings().maxLagOnFailoverBytes,
  );
}

/** Answers whoever asked for it. */
export function settle(
  context: AgentContext,
  kind: "restart" | "reinit" | "shutdown",
  failure: unknown,
): void {
  const pending = context.notebook.request;
  if (pending?.request.kind !== kind) return;
  context.notebook.request = null;
  pending.done(failure);
}
