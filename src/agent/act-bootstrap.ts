import type { LeaseRecord } from "../cluster/records.ts";
import { currentToken } from "../cluster/state.ts";
import type { DcsWrite } from "../dcs/dcs.ts";
import { keys } from "../dcs/layout.ts";
import { Fault } from "../values/fault.ts";
import { nextToken, type Timeline } from "../values/names.ts";
import { declareServing, permission, stillOpen } from "./act-leadership.ts";
import type { AgentContext } from "./context.ts";
import { dcsTimeoutMs } from "./context.ts";
import type { Executor } from "./execution.ts";
import { durabilityWrites, startingNames } from "./durability-keeper.ts";
import { postgresSettings } from "./postgres-settings.ts";

/** The first lease, or the next one over a bootstrap that was not finished. */
async function claim(context: AgentContext, timeline: Timeline, initialize: string): Promise<boolean> {
  const { mirror, keeper, options, secrets, settings, membership } = context;
  const state = await mirror.refresh(dcsTimeoutMs(settings().ttlMs));
  // What was just read may be more than what was decided from: another may have claimed or finished meanwhile.
  if (state.initialization.value.kind === "initialized" || !stillOpen(context, state)) return false;
  const lease: LeaseRecord = {
    holder: options.node,
    token: nextToken(currentToken(state)),
    renewal: (state.lease.value?.renewal ?? 0) + 1,
    ttlMs: settings().ttlMs,
    state: "elected",
    timeline,
    reservedTimeline: timeline,
    origin: null,
    lsn: null,
    release: null,
    servingSince: null,
  };
  const known = mirror.entry(keys.secrets);
  const offered = known?.value ?? secrets.offer();
  const writes: DcsWrite[] = [
    { key: keys.initialize, value: initialize },
    { key: keys.leader, value: options.node },
    // No client has been acknowledged anything here yet: until a standby is there, this node alone holds what will be.
    ...durabilityWrites([{ token: lease.token, primary: membership.member, members: [], required: 0 }]),
  ];
  if (known === undefined) writes.push({ key: keys.secrets, value: offered });
  if (state.settings.value === null)
    writes.push({ key: keys.config, value: JSON.stringify(options.bootstrap.settings) });
  const won = await keeper.take(lease, state.lease, {
    checks: [
      { key: keys.initialize, version: state.initialization.version },
      { key: keys.durability, version: state.durability.version },
      { key: keys.secrets, version: known?.version ?? 0 },
      { key: keys.config, version: state.settings.version },
    ],
    writes,
  });
  if (won) await secrets.adopt(offered);
  return won;
}

/** Contends for making the cluster: whoever writes `initialize` and the first lease together has won. */
export const claimBootstrap: Executor<{ kind: "claim-bootstrap" }> = async ({ context }) => {
  if ((await context.instance.inspect()).kind === "empty") await context.membership.renew();
  const won = await claim(context, 1 as Timeline, "");
  context.log("info", "bootstrap.claim", { won });
};

/** initdb, first start able to write, roles, then serving. Begins anew over the leftovers of an earlier try. */
export const bootstrap: Executor<{ kind: "bootstrap" }> = async ({ context, step }) => {
  const { instance, options, keeper, journal, mirror } = context;
  // Decided from what was seen, which may be older than what this node itself has written: what it made is not made anew.
  const state = await mirror.refresh(dcsTimeoutMs(context.settings().ttlMs));
  if (state.initialization.value.kind !== "bootstrapping") return;
  const facts = await instance.inspect();
  if (facts.kind === "running") await instance.kill();
  if (facts.kind !== "empty" && facts.kind !== "unusable") {
    step("setting leftovers aside");
    await instance.retireDataDirectory();
  }
  await markProvisional(context, true);
  step("initdb");
  const held = keeper.standing();
  if (held.kind !== "mine") throw new Fault("LOST_LEADERSHIP", "Another node makes the cluster now.");
  context.notebook.synchronousNames = startingNames(context, held.lease.token);
  const settings = postgresSettings(context);
  await instance.bootstrap({
    initdbOptions: options.bootstrap.initdbOptions,
    dataChecksums: options.bootstrap.dataChecksums,
    settings,
  });
  step("starting");
  context.notebook.startedToWrite = true;
  await instance.startPrimary(settings, options.startTimeoutMs, permission(context));
  const started = await instance.inspect();
  if (started.kind !== "running" || started.sql === null)
    throw new Fault("POSTGRES_START_FAILED", "The new PostgreSQL does not answer.");
  step("declaring");
  const identifier = started.sql.systemIdentifier;
  const done = await keeper.change((lease) => lease, {
    checks: [],
    writes: [{ key: keys.initialize, value: identifier }],
  });
  if (!done) throw new Fault("LOST_LEADERSHIP", "Another node makes the cluster now.");
  await markProvisional(context, false);
  await declareServing(context);
  journal.event("cluster_bootstrapped", true, `the cluster ${options.cluster} was made by ${options.node}`, {
    system_identifier: identifier,
  });
};

/** Sets aside what an unfinished bootstrap of this node left, now that another has made the cluster. */
export const discardProvisional: Executor<{ kind: "discard-provisional" }> = async ({ context }) => {
  await context.instance.retireDataDirectory();
  await markProvisional(context, false);
};

/** Notes durably that the data directory is a bootstrap's that nobody has seen serving yet. */
async function markProvisional(context: AgentContext, provisional: boolean): Promise<void> {
  const { files, clock } = context;
  if (provisional) await files.write(provisionalFile, clock.wall());
  else await files.remove(provisionalFile);
  context.notebook.provisional = provisional;
}

/** The file of the state directory that is there while the data directory is a bootstrap's. */
export const provisionalFile = "bootstrapping";

/** Founds the cluster on the data directory that is here. */
export const adopt: Executor<{ kind: "adopt" }> = async ({ context }) => {
  const facts = await context.instance.inspect();
  if (facts.kind !== "stopped") return;
  const won = await claim(context, facts.walTimeline, facts.control.systemIdentifier);
  context.log("info", "adopt.claim", { won, system_identifier: facts.control.systemIdentifier });
};
