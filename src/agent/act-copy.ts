import { isRecorded } from "../cluster/durability.ts";
import { Fault } from "../values/fault.ts";
import type { NodeName } from "../values/names.ts";
import { elapsedMs } from "../values/time.ts";
import type { AgentContext } from "./context.ts";
import type { Execution, Executor } from "./execution.ts";
import { saveOwnWal } from "./local-archive.ts";
import { seedFromArchive } from "./seed.ts";
import { upstreamAddress } from "./observe.ts";
import { postgresSettings } from "./postgres-settings.ts";
import { beginStandby, settle } from "./act-postgres.ts";

/** Copies this node from the source. */
export const clone: Executor<{ kind: "clone"; source: NodeName }> = async (execution) => {
  await copyFrom(execution, execution.action.source);
};

/** Copies this node anew although it has data: that is set aside until the copy streams (I6). */
export const reinit: Executor<{ kind: "reinit"; source: NodeName }> = async (execution) => {
  const { context, action, step } = execution;
  context.journal.event("reinit_started", true, `copying anew from ${action.source}`, {
    source: action.source,
  });
  step("stopping");
  await context.instance.stop("fast", context.options.stopTimeoutMs);
  settle(context, "reinit", null);
  step("leaving the durability set");
  await untilNotCounted(context);
  await copyFrom(execution, action.source);
};

/** How long the leader has to take a member out of the durability set before its data is replaced. */
const leaveLimitMs = 5000;

/**
 * A member leaves the set before its data goes (Rejoin). Where commits cannot do without it (strict), it goes all the same
 * after a while: nothing is lost by that, because nobody is elected without this member or the primary.
 */
async function untilNotCounted(context: AgentContext): Promise<void> {
  const { mirror, membership, clock, timers, log } = context;
  const started = clock.now();
  while (isRecorded(mirror.state?.durability.value ?? [], membership.member)) {
    if (elapsedMs(started, clock.now()) > leaveLimitMs) {
      log("warn", "durability.still_counted", { member: membership.member });
      return;
    }
    await timers.sleep(50);
  }
}

export async function copyFrom(execution: Execution, sourceName: NodeName): Promise<void> {
  const { context, signal, step } = execution;
  const { instance, notebook, journal, settings, clock } = context;
  const source = upstreamAddress(context, sourceName);
  if (source === null) throw new Fault("NODE_UNKNOWN", `There is no address of ${sourceName}.`);
  if ((await instance.inspect()).kind === "stopped") await saveOwnWal(context, step);
  const leads = context.mirror.state?.lease.value?.holder ?? sourceName;
  if (await seedFromArchive(execution, leads)) {
    await begin(execution, leads);
    return;
  }
  const started = clock.now();
  journal.event("clone_started", true, `copying from ${sourceName}`, { source: sourceName });
  step("copying");
  try {
    await instance.clone({
      source,
      settings: postgresSettings(context),
      basebackupOptions: context.options.basebackupOptions,
      signal,
      onProgress: (progress) => step(`copying: ${progress.step}`, progress.doneBytes, progress.totalBytes),
    });
  } catch (thrown) {
    const { reclone } = settings();
    notebook.failed("clone", reclone.waitMs, reclone.maxWaitMs);
    journal.event("clone_failed", false, thrown instanceof Error ? thrown.message : String(thrown), {
      source: sourceName,
    });
    throw thrown;
  }
  journal.event("clone_done", true, `copied from ${sourceName}`, {
    source: sourceName,
    ms: Math.round(elapsedMs(started, clock.now())),
  });
  await begin(execution, context.mirror.state?.lease.value?.holder ?? sourceName);
}

/** The data is new: another member from here on, which follows the leader. */
async function begin({ context, step }: Execution, leader: NodeName): Promise<void> {
  await context.membership.renew();
  context.notebook.succeeded("clone", "rejoin", "recovery");
  context.notebook.diverged = null;
  step("starting");
  await beginStandby(context, leader === context.options.node ? null : leader);
}
