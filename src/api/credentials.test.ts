import { describe, expect, it } from "vitest";
import { Secret } from "../values/secret.ts";
import { checkAccess, type Access, type ApiAuth } from "./credentials.ts";
import type { ApiRequest, Remote } from "./exchange.ts";

const auth: ApiAuth = {
  token: () => new Secret("the-token"),
  basic: { username: "operator", password: new Secret("pass:word") },
};
const network: Remote = {
  address: "10.0.0.9",
  encrypted: false,
  sameHost: false,
  verifiedCertificate: false,
};
const here: Remote = { ...network, address: "127.0.0.1", sameHost: true };
const tls: Remote = { ...network, encrypted: true };

function request(remote: Remote, headers: ApiRequest["headers"]): ApiRequest {
  return {
    method: "POST",
    path: "/v1/pause",
    query: new URLSearchParams(),
    headers,
    remote,
    json: () => Promise.resolve(undefined),
  };
}
const basic = (pair: string): string => `Basic ${Buffer.from(pair).toString("base64")}`;

describe("access to what changes something", () => {
  it.each<[string, Remote, string | undefined, Access]>([
    ["nothing", here, undefined, "missing"],
    ["the token", network, "Bearer the-token", "granted"],
    ["the token, in small letters of the scheme", network, "bearer the-token", "granted"],
    ["another token", network, "Bearer the-tokem", "wrong"],
    ["an empty token", network, "Bearer ", "wrong"],
    ["the token without a scheme", network, "the-token", "wrong"],
    ["the user on this host", here, basic("operator:pass:word"), "granted"],
    ["the user over TLS", tls, basic("operator:pass:word"), "granted"],
    ["the user over an open network", network, basic("operator:pass:word"), "exposed"],
    ["a wrong password over an open network", network, basic("operator:x"), "exposed"],
    ["a wrong password", here, basic("operator:password"), "wrong"],
    ["another user with the right password", here, basic("root:pass:word"), "wrong"],
    ["the token as the password of pgherd", here, basic("pgherd:the-token"), "granted"],
    ["the token as the password of somebody", here, basic("operator:the-token"), "wrong"],
    ["what is not base64", here, "Basic %%%", "wrong"],
    ["another scheme", here, "Digest the-token", "wrong"],
  ])("%s", (_name, remote, authorization, access) => {
    expect(checkAccess(request(remote, authorization === undefined ? {} : { authorization }), auth)).toBe(
      access,
    );
  });

  it("grants a verified certificate without anything else", () => {
    expect(checkAccess(request({ ...tls, verifiedCertificate: true }, {}), auth)).toBe("granted");
  });

  it("accepts no token while none is known", () => {
    const none: ApiAuth = { token: () => null, basic: null };
    for (const authorization of ["Bearer ", "Bearer null", basic("pgherd:"), basic("pgherd:null")])
      expect(checkAccess(request(here, { authorization }), none)).toBe("wrong");
  });

  it("refuses a page of another origin although the browser knows the password", () => {
    const headers = { authorization: basic("operator:pass:word"), "sec-fetch-site": "cross-site" };
    expect(checkAccess(request(here, headers), auth)).toBe("foreign");
    expect(checkAccess(request(here, { ...headers, "sec-fetch-site": "same-origin" }), auth)).toBe("granted");
  });
});
