import type { Random } from "../system/random.ts";
import { memberOf, parseToken, type FencingToken, type Member, type NodeName } from "../values/names.ts";
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
  /** Clients are kept out until what was not known to be safe before a crash is (P6). */
  readonly closed: boolean;
  /** Promises the token. */
  promise(token: FencingToken): Promise<void>;
  /** The data is or will be new: another member from now on. */
  renew(): Promise<void>;
  /** Keeps clients out, or lets them in. */
  setClosed(closed: boolean): Promise<void>;
}

const promiseFile = "promise";
const closedFile = "clients_kept_out";

/** The membership kept in the state directory. */
export async function loadMembership(
  files: StateFiles,
  node: NodeName,
  loaded: Identity,
  random: Random,
): Promise<Membership> {
  let promised = parseToken(Number((await files.read(promiseFile)) ?? NaN)) ?? null;
  let closed = (await files.read(closedFile)) !== null;
  let identity = loaded;
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
    get closed() {
      return closed;
    },
    promise: async (token) => {
      if (promised !== null && promised >= token) return;
      await files.write(promiseFile, String(token));
      promised = token;
    },
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
