import { isReplaced } from "../cluster/durability.ts";
import { toFault } from "../values/fault.ts";
import type { Lsn } from "../values/lsn.ts";
import type { AgentContext } from "./context.ts";

/**
 * Data that somebody put back to an earlier state is another member from here on: what this one acknowledged it may not
 * have any more (Words: Member). @returns whether it was, seen for the first time
 */
export async function wentBack(context: AgentContext): Promise<boolean> {
  const { instance, membership, journal } = context;
  if (!(await instance.dataWentBack())) return false;
  const former = membership.member;
  await membership.renew();
  await instance.acceptData();
  journal.event("member_renewed", true, "the data was put back to an earlier state: it counts as new", {
    former,
    member: membership.member,
  });
  return true;
}

/** Whether this node is recorded as the primary with other data than it has now. */
export function isOther(context: AgentContext): boolean {
  return isReplaced(context.mirror.state?.durability.value ?? [], context.membership.member);
}

/**
 * Where the WAL here ends, for the release of the lease. null when it cannot be read (a lease is not kept from the others
 * because of that), or when it says nothing about what was acknowledged, because the data was put back.
 */
export async function endOfOwnWal(context: AgentContext): Promise<Lsn | null> {
  try {
    if ((await wentBack(context)) || isOther(context)) return null;
    return (await context.instance.endOfWal())?.lsn ?? null;
  } catch (thrown) {
    context.log("error", "postgres.end_of_wal_failed", { ...toFault(thrown).report() });
    return null;
  }
}
