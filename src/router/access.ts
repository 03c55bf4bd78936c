import type { AccessMethod, AccessRule } from "../config/router-config.ts";
import { type NetworkMatcher, networkMatcher } from "./networks.ts";

/** Who asks to come in. */
export interface AccessRequest {
  readonly user: string;
  readonly database: string;
  /** physical: of a standby or pg_receivewal, which name no database; logical: a walsender of one database. */
  readonly replication: "no" | "physical" | "logical";
  readonly address: string;
  readonly encrypted: boolean;
}

export type AccessDecision =
  | {
      readonly kind: "prove";
      readonly method: Exclude<AccessMethod, "reject">;
      readonly map: AccessRule["map"];
    }
  | { readonly kind: "refused"; readonly message: string };

/** Decides who may try to log in, and how. */
export type Access = (request: AccessRequest) => AccessDecision;

/**
 * The rules in their order, the first that matches decides; nobody comes in whom none names. Without any rule everybody
 * may try, with SCRAM.
 */
export function accessOf(rules: readonly AccessRule[]): Access {
  if (rules.length === 0) return () => ({ kind: "prove", method: "scram-sha-256", map: null });
  const compiled = rules.map((rule) => ({ rule, inNetwork: networkMatcher(rule.addresses) }));
  return (request) => {
    const index = compiled.findIndex(({ rule, inNetwork }) => matches(rule, inNetwork, request));
    const rule = compiled[index]?.rule;
    if (rule === undefined) return { kind: "refused", message: `no access rule for ${described(request)}` };
    if (rule.method === "reject")
      return { kind: "refused", message: `access rule ${index + 1} rejects ${described(request)}` };
    return { kind: "prove", method: rule.method, map: rule.map };
  };
}

function matches(rule: AccessRule, inNetwork: NetworkMatcher, request: AccessRequest): boolean {
  return (
    (rule.tls === "any" || request.encrypted) &&
    namesDatabase(rule.databases, request) &&
    (rule.users.includes("all") || rule.users.includes(request.user)) &&
    inNetwork(request.address)
  );
}

/** As in pg_hba.conf: `all` does not mean physical replication, which has no database. */
function namesDatabase(names: readonly string[], request: AccessRequest): boolean {
  if (request.replication === "physical") return names.includes("replication");
  return names.some((name) => name === "all" || (name === request.database && name !== "replication"));
}

function described(request: AccessRequest): string {
  const connection = request.replication === "physical" ? "replication connection from host" : "host";
  const database = request.replication === "physical" ? "" : `, database "${request.database}"`;
  const encryption = request.encrypted ? "TLS encryption" : "no encryption";
  return `${connection} "${request.address}", user "${request.user}"${database}, ${encryption}`;
}
