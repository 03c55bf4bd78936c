import type { View } from "../cluster/view.ts";
import { formatLsn } from "../values/lsn.ts";
import type { AgentContext } from "./context.ts";

/** Tells by comparing two rounds what happened in between that no act of this agent caused, and records it as events. */
export class Changes {
  readonly #context: AgentContext;
  #before: View | null = null;

  constructor(context: AgentContext) {
    this.#context = context;
  }

  /** Records what changed since the last round. */
  notice(view: View): void {
    const before = this.#before;
    this.#before = view;
    if (before === null) return;
    this.#dcs(before, view);
    this.#postgres(before, view);
    this.#standbys(before, view);
    this.#registered(before, view);
  }

  #dcs(before: View, view: View): void {
    if (before.dcs.silentMs === null || before.dcs.reachable === view.dcs.reachable) return;
    const { journal, dcs } = this.#context;
    if (view.dcs.reachable) journal.event("dcs_back", true, `${dcs.description} answers again`);
    else
      journal.event("dcs_lost", false, `${dcs.description} does not answer`, {
        silent_ms: Math.round(view.dcs.silentMs ?? 0),
      });
  }

  #postgres(before: View, view: View): void {
    const wasUp = before.postgres.kind === "running" && before.postgres.ours;
    if (
      !wasUp ||
      view.postgres.kind !== "stopped" ||
      view.postgres.clean ||
      before.operation !== null ||
      view.operation !== null
    )
      return;
    this.#context.journal.event("postgres_crashed", false, "PostgreSQL ended unasked", {
      role: before.postgres.role,
      lsn: formatLsn(before.postgres.lsn),
    });
  }

  #standbys(before: View, view: View): void {
    if (view.standbysSeenAt === null || before.standbysSeenAt === null || view.postgres.kind !== "running")
      return;
    const names = (of: View): ReadonlySet<string> => new Set(of.standbys.map((standby) => standby.node));
    const [then, now] = [names(before), names(view)];
    for (const name of now)
      if (!then.has(name))
        this.#context.journal.event("standby_connected", true, `${name} streams from here`, {
          standby: name,
        });
    for (const name of then)
      if (!now.has(name))
        this.#context.journal.event(
          "standby_disconnected",
          false,
          `${name} does not stream from here any more`,
          { standby: name },
        );
  }

  /** The leader alone tells of new nodes, so that it is told once. */
  #registered(before: View, view: View): void {
    if (before.cluster === null || view.cluster === null || view.standing.kind !== "mine") return;
    for (const [name, { value }] of view.cluster.nodes) {
      if (before.cluster.nodes.has(name) || name === view.self) continue;
      this.#context.journal.event("node_registered", true, `${name} joined the cluster`, {
        registered: name,
        host: value.host,
        port: value.port,
      });
    }
  }
}
