import { boundForMs, type Grant } from "../cluster/failsafe.ts";
import type { Clock } from "../system/clock.ts";
import type { Random } from "../system/random.ts";
import { Fault } from "../values/fault.ts";
import {
  memberOf,
  parseNodeName,
  parseToken,
  type FencingToken,
  type Member,
  type NodeName,
} from "../values/names.ts";
import { elapsedMs, instantAfter, type Instant } from "../values/time.ts";
import { renewIncarnation, type Identity } from "./identity.ts";
import type { StateFiles } from "./state-files.ts";

/**
 * What this node owes the durability record, kept outside the data directory and durable whenever a call resolves (F2, P6,
 * Words: Member).
 */
export interface Membership {
  /** Tells this data from every other that the node ever had. */
  readonly incarnation: string;
  /** This node with its incarnation. */
  readonly member: Member;
  /** The highest token promised; null = none. It connects to no holder of a lower one (F9). */
  readonly promised: FencingToken | null;
  /** The grant that binds this node, and for how long yet; null = none does (any more). */
  readonly grant: (Grant & { readonly forMs: number }) | null;
  /** Clients are kept out until what was not known to be safe before a crash is (P6). */
  readonly closed: boolean;
  /**
   * Promises the token, over a lease that ran out or was released: the latter ends a grant too.
   * @throws Fault GRANT_REFUSED while a grant stands against it
   */
  promise(token: FencingToken, over: "run-out" | "released"): Promise<void>;
  /**
   * Gives a grant unless `refusal` finds a reason against it: one after the other with the promises, so that never both are
   * given. It binds from `received` on. @throws Fault GRANT_REFUSED
   */
  give(grant: Grant, received: Instant, refusal: () => string | null): Promise<void>;
  /** Forgets a grant that has ended: it would bind anew after a restart. */
  tidy(): Promise<void>;
  /** The data is or will be new: another member from now on. */
  renew(): Promise<void>;
  /** Keeps clients out, or lets them in. */
  setClosed(closed: boolean): Promise<void>;
}

const promiseFile = "promise";
const grantFile = "grant";
const closedFile = "clients_kept_out";

/** The membership kept in the state directory. */
export async function loadMembership(
  files: StateFiles,
  node: NodeName,
  loaded: Identity,
  ports: { readonly random: Random; readonly clock: Clock },
): Promise<Membership> {
  const { random, clock } = ports;
  let promised = parseToken(Number((await files.read(promiseFile)) ?? NaN)) ?? null;
  let closed = (await files.read(closedFile)) !== null;
  let identity = loaded;
  // How much of it was left is not known any more: it binds for its whole length again.
  const kept = grantIn(await files.read(grantFile));
  let given = kept === null ? null : { grant: kept, until: instantAfter(clock.now(), boundForMs(kept)) };
  let queue: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const run = queue.then(work);
    queue = run.catch(() => undefined);
    return run;
  };
  const binding = (): Membership["grant"] => {
    const forMs = given === null ? 0 : elapsedMs(clock.now(), given.until);
    return given === null || forMs <= 0 ? null : { ...given.grant, forMs };
  };
  return {
    get incarnation() {
      return identity.incarnation;
    },
    get member() {
      return memberOf(node, identity.incarnation);
    },
    get promised() {
      return promised;
    },
    get grant() {
      return binding();
    },
    get closed() {
      return closed;
    },
    promise: (token, over) =>
      inTurn(async () => {
        if (promised !== null && promised >= token) return;
        const grant = binding();
        // The token after the granted one is that of an election over the very lease the grant is for.
        if (grant !== null && over === "run-out" && token <= grant.token + 1)
          throw refused(
            `token ${grant.token} of ${grant.holder} was granted ${Math.ceil(grant.forMs)} ms more`,
          );
        await files.write(promiseFile, String(token));
        promised = token;
      }),
    give: (grant, received, refusal) =>
      inTurn(async () => {
        const reason = refusal();
        if (reason !== null) throw refused(reason);
        const until = instantAfter(received, boundForMs(grant));
        // Of two grants the later end binds; that of a lower token has no use beside one of a higher.
        const longer = given !== null && given.grant.token === grant.token && given.until > until;
        await files.write(grantFile, JSON.stringify(grant));
        given = { grant, until: longer && given !== null ? given.until : until };
      }),
    tidy: () =>
      inTurn(async () => {
        if (given === null || binding() !== null) return;
        await files.remove(grantFile);
        given = null;
      }),
    renew: async () => {
      identity = await renewIncarnation(files, identity, random);
    },
    setClosed: async (wanted) => {
      if (wanted === closed) return;
      if (wanted) await files.write(closedFile, "");
      else await files.remove(closedFile);
      closed = wanted;
    },
  };
}

function refused(reason: string): Fault {
  return new Fault("GRANT_REFUSED", `This node cannot promise both: ${reason}.`);
}

function grantIn(text: string | null): Grant | null {
  if (text === null) return null;
  try {
    const { holder, token, holdMs } = JSON.parse(text) as Readonly<Record<string, unknown>>;
    const name = typeof holder === "string" ? parseNodeName(holder) : undefined;
    const number = typeof token === "number" ? parseToken(token) : undefined;
    return name === undefined || number === undefined || typeof holdMs !== "number"
      ? null
      : { holder: name, token: number, holdMs };
  } catch {
    return null;
  }
}
