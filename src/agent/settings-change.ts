import { effectiveSettings, parseClusterSettings, type StoredSettings } from "../config/cluster-settings.ts";
import { formatProblems } from "../config/problem.ts";
import { applyPatch, replaceSettings } from "../config/settings-change.ts";
import type { DurabilityPolicy } from "../cluster/durability.ts";
import { mayBecomePrimary } from "../cluster/candidates.ts";
import { durabilityProblems } from "../cluster/durability-check.ts";
import { receiversOf } from "../cluster/receivers.ts";
import { awayAfterMs, fitsStop, heldForMs, renewalMs, stopBudgetMs } from "../cluster/policy.ts";
import type { ClusterState } from "../cluster/state.ts";
import { keys } from "../dcs/layout.ts";
import { elapsedMs } from "../values/time.ts";
import { Fault } from "../values/fault.ts";
import { dcsTimeoutMs, type AgentContext } from "./context.ts";
import type { SettingsChange, SettingsView } from "./service.ts";
import { mayCount } from "./sync-standbys.ts";

/** How long a change waits for the nodes; one that is busy takes the settings later. */
const applyWaitMs = 3000;

/** The cluster settings as stored and with their defaults. */
export function settingsView(context: AgentContext): SettingsView {
  const settings = context.mirror.state?.settings ?? { value: null, version: 0 };
  const { stored } = parseClusterSettings(settings.value);
  return { stored, effective: effectiveSettings(stored), version: settings.version };
}

/**
 * Changes the cluster settings by compare-and-swap on the version that was read.
 * @throws Fault CONFIG_INVALID with every problem, DCS_CONFLICT, DCS_UNREACHABLE
 */
export async function changeSettings(
  context: AgentContext,
  how: "patch" | "replace",
  input: unknown,
  options: { readonly dryRun: boolean; readonly version: number | null },
): Promise<SettingsChange> {
  const timeoutMs = dcsTimeoutMs(context.settings().ttlMs);
  const state = await context.mirror.refresh(timeoutMs);
  const before = settingsView(context);
  if (options.version !== null && options.version !== state.settings.version)
    throw new Fault("DCS_CONFLICT", "The cluster settings were changed by somebody else in the meantime.", {
      detail: "Nothing was changed.",
      hint: "Look at them again (`pgherd config show`) and repeat the change.",
    });
  const outcome = how === "patch" ? applyPatch(before.stored, input) : replaceSettings(before.stored, input);
  if (outcome.outcome === "refused")
    throw new Fault("CONFIG_INVALID", "The cluster settings would not be valid.", {
      detail: [...formatProblems(outcome.problems), "Nothing was changed."].join("\n"),
    });
  const { stored, diff } = outcome;
  refuseShortTtl(context, parseClusterSettings(JSON.stringify(stored)).settings.ttlMs);
  checkDurability(state, before.stored, stored);
  if (options.dryRun) return { diff, view: { ...before, stored, effective: effectiveSettings(stored) } };
  if (outcome.outcome === "changed") {
    await write(context, stored, state.settings.version, timeoutMs, diff);
    await untilApplied(context);
  }
  return { diff, view: settingsView(context) };
}

/**
 * Whether the registered nodes can keep what the durability settings ask for. Only a change of these settings is held against
 * them: a node that is removed later makes no other change impossible. @throws Fault CONFIG_INVALID with the numbers
 */
function checkDurability(state: ClusterState, before: StoredSettings, after: StoredSettings): void {
  const durability = durabilityOf(after);
  if (JSON.stringify(durability) === JSON.stringify(durabilityOf(before))) return;
  const nodes = [...state.nodes.values()].map(({ value }) => value);
  const problems = durabilityProblems(durability, {
    leader: state.lease.value?.holder ?? null,
    nodes: [
      ...nodes.map(({ name, tags }) => ({ name, counts: mayCount(tags), leads: mayBecomePrimary(tags) })),
      ...receiversOf(state).map(({ name, synchronous }) => ({ name, counts: synchronous, leads: false })),
    ],
  });
  if (problems.length === 0) return;
  throw new Fault("CONFIG_INVALID", "The nodes of this cluster cannot keep these durability settings.", {
    detail: [...problems, "Nothing was changed."].join("\n"),
    hint: "Add nodes or a WAL receiver first, or set sync_standbys, sync_order and durability together to what is there.",
  });
}

function durabilityOf(stored: StoredSettings): DurabilityPolicy {
  return parseClusterSettings(JSON.stringify(stored)).settings.durability;
}

/** P3: a lease that leaves no time to renew it before a node would have to begin to end PostgreSQL. @throws Fault STOP_BUDGET_TOO_LARGE */
function refuseShortTtl(context: AgentContext, ttlMs: number): void {
  const now = context.clock.now();
  const told = [...(context.mirror.state?.nodes.values() ?? [])]
    .map(({ value }) => value)
    .filter(({ name }) => context.mirror.heardMs(name, now) < awayAfterMs(context.settings().ttlMs));
  const slow = told.filter(({ stopMs }) => stopMs !== null && !fitsStop(ttlMs, stopMs));
  if (slow.length === 0 || ttlMs >= context.settings().ttlMs) return;
  const figures = slow.map(({ name, stopMs }) => stopFigures(name, ttlMs, stopMs ?? 0));
  throw new Fault("STOP_BUDGET_TOO_LARGE", `A ttl of ${ttlMs} ms is too short for ${slow[0]?.name ?? ""}.`, {
    detail: [...figures, "Nothing was changed."].join("\n"),
    hint: "Choose a longer ttl.",
  });
}

function stopFigures(name: string, ttlMs: number, stopMs: number): string {
  const kept = Math.round(stopBudgetMs(ttlMs, stopMs));
  const held = Math.round(heldForMs(ttlMs, stopMs));
  return `${name}: ending PostgreSQL took ${stopMs} ms, so ${kept} ms are kept for it; that leaves ${held} ms, and two renewals take ${2 * renewalMs(ttlMs)} ms.`;
}

/** Waits a moment for the nodes that are there to have the settings in force, so that what follows finds them so. */
async function untilApplied(context: AgentContext): Promise<void> {
  const { mirror, clock, timers, settings } = context;
  const version = mirror.state?.settings.version ?? 0;
  const started = clock.now();
  while (elapsedMs(started, clock.now()) < applyWaitMs) {
    const now = clock.now();
    const behind = [...(mirror.state?.nodes.values() ?? [])].some(
      ({ value }) =>
        value.role !== null &&
        mirror.heardMs(value.name, now) < awayAfterMs(settings().ttlMs) &&
        (value.appliedSettings ?? 0) < version,
    );
    if (!behind) return;
    await timers.sleep(20);
  }
}

async function write(
  context: AgentContext,
  after: StoredSettings,
  version: number,
  timeoutMs: number,
  diff: readonly string[],
): Promise<void> {
  const result = await context.dcs.transact(
    { checks: [{ key: keys.config, version }], writes: [{ key: keys.config, value: JSON.stringify(after) }] },
    timeoutMs,
  );
  if (result.outcome === "conflict")
    throw new Fault(
      "DCS_CONFLICT",
      "The cluster settings were changed by somebody else at the same moment.",
      {
        detail: "Nothing was changed.",
      },
    );
  const wasPaused = context.settings().paused;
  await context.mirror.refresh(timeoutMs);
  const isPaused = context.settings().paused;
  if (wasPaused !== isPaused)
    context.journal.event(
      isPaused ? "paused" : "resumed",
      true,
      isPaused ? "the cluster was paused" : "the cluster was resumed",
    );
  else context.journal.event("settings_changed", true, diff.join("; "));
  context.wake();
}
