import { isAncestor } from "../cluster/rejoin.ts";
import type { FencingToken, NodeName } from "../values/names.ts";
import { toFault } from "../values/fault.ts";
import type { AgentContext } from "./context.ts";
import { upstreamAddress } from "./observe.ts";
import { postgresSettings } from "./postgres-settings.ts";

/** The token under which `leader` holds the lease; null = it does not. What is proven against it now counts for this token. */
export function provenToken(context: AgentContext, leader: NodeName): FencingToken | null {
  const lease = context.mirror.state?.lease.value ?? null;
  return lease?.holder === leader && lease.state !== "released" ? lease.token : null;
}

/**
 * S5: whether this running standby's WAL is an ancestor of the leader's, so that what it acknowledges counts. Its position is
 * measured at rest, with the receiver ended, or what it receives meanwhile from elsewhere would go unseen.
 * @returns the token it is proven for; null = not proven (now), or the upstream does not lead
 */
export async function proveLineage(context: AgentContext, upstream: NodeName): Promise<FencingToken | null> {
  const { instance, notebook, mirror, membership } = context;
  const token = provenToken(context, upstream);
  const address = upstreamAddress(context, upstream, token);
  const lease = mirror.state?.lease.value ?? null;
  if (token === null || address === null || lease === null) return null;
  if (membership.promised !== null && membership.promised > token) return null;
  const configured = await instance.configuredUpstream();
  // Proven by the agent before this one: the configuration holds the name only after the proof.
  if (notebook.ballot === null && configured !== null && sameAddress(configured, address)) return token;
  try {
    const { origin } = lease;
    const known = notebook.ballot;
    if (known !== null && origin !== null && known.timeline === origin.timeline && known.lsn <= origin.lsn)
      return done(context, token);
    const plain = upstreamAddress(context, upstream);
    if (plain === null || (lease.state !== "serving" && origin === null)) return null;
    // Nothing is interrupted for a leader that does not answer.
    if (lease.state === "serving") await instance.upstreamHistory(plain);
    const position = known ?? (await instance.stopReceiving(postgresSettings(context)));
    notebook.upstream = null;
    if (origin !== null && position.timeline === origin.timeline && position.lsn <= origin.lsn)
      return done(context, token);
    if (lease.state === "serving") {
      const history = await instance.upstreamHistory(plain);
      if (!history.inRecovery && isAncestor(position, history)) return done(context, token);
      // Now it is known: no need to wait until nothing comes for a while.
      if (!history.inRecovery) notebook.diverged = { leader: upstream, token };
    }
    context.log("info", "lineage.unproven", { upstream, token, timeline: position.timeline });
  } catch (thrown) {
    context.log("debug", "lineage.unproven", { upstream, token, ...toFault(thrown).report() });
  }
  notebook.failed("prove", 250, 5000);
  return null;
}

function done(context: AgentContext, token: FencingToken): FencingToken {
  context.notebook.succeeded("prove");
  context.notebook.diverged = null;
  return token;
}

function sameAddress(
  a: { readonly host: string; readonly port: number; readonly applicationName: string },
  b: { readonly host: string; readonly port: number; readonly applicationName: string },
): boolean {
  return a.host === b.host && a.port === b.port && a.applicationName === b.applicationName;
}
