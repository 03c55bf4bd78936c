import { createHash, timingSafeEqual } from "node:crypto";
import type { Secret } from "../values/secret.ts";
import type { ApiRequest } from "./exchange.ts";

/** Who may change something. Reading is open to everybody. */
export interface ApiAuth {
  /** The cluster's token; null while it is not known yet, and then no token is accepted. */
  readonly token: () => Secret | null;
  /** A user of HTTP Basic besides `pgherd` with the token as the password; null = none. */
  readonly basic: { readonly username: string; readonly password: Secret } | null;
}

/**
 * missing: no credentials came. wrong: they are not valid. exposed: a password came over a network without encryption,
 * and is refused whether it is right or not. foreign: a browser sent it for a page of another origin.
 */
export type Access = "granted" | "missing" | "wrong" | "exposed" | "foreign";

/** The user name under which the token is accepted as a password, for tools that know only HTTP Basic. */
const tokenUser = "pgherd";

/** Whether this request may change something. */
export function checkAccess(request: ApiRequest, auth: ApiAuth): Access {
  const site = request.headers["sec-fetch-site"];
  if (site !== undefined && site !== "same-origin" && site !== "none") return "foreign";
  if (request.remote.verifiedCertificate) return "granted";
  const header = request.headers.authorization;
  if (header === undefined) return "missing";
  const [scheme, value] = splitHeader(header);
  const token = auth.token();
  switch (scheme) {
    case "bearer":
      return token !== null && sameText(value, token.reveal()) ? "granted" : "wrong";
    case "basic": {
      if (!request.remote.encrypted && !request.remote.sameHost) return "exposed";
      const given = Buffer.from(value, "base64").toString("utf8");
      const accepted = [
        ...(token === null ? [] : [`${tokenUser}:${token.reveal()}`]),
        ...(auth.basic === null ? [] : [`${auth.basic.username}:${auth.basic.password.reveal()}`]),
      ];
      return accepted.some((pair) => sameText(given, pair)) ? "granted" : "wrong";
    }
    default:
      return "wrong";
  }
}

function splitHeader(header: string): readonly [string, string] {
  const space = header.indexOf(" ");
  return space < 0
    ? [header.toLowerCase(), ""]
    : [header.slice(0, space).toLowerCase(), header.slice(space + 1).trim()];
}

/** Compares without telling by its time how much is right, nor how long the secret is. */
function sameText(a: string, b: string): boolean {
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}
