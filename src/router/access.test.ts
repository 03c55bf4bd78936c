import { describe, expect, test } from "vitest";
import { accessRule as rule } from "../../test/support/router-front.ts";
import type { AccessRule } from "../config/router-config.ts";
import { accessOf, type AccessRequest } from "./access.ts";

function request(over: Partial<AccessRequest> = {}): AccessRequest {
  return {
    user: "app",
    database: "shop",
    replication: "no",
    address: "10.0.0.7",
    encrypted: false,
    ...over,
  };
}

test("without rules everybody may try with SCRAM", () => {
  expect(accessOf([])(request({ replication: "physical", address: "::1" }))).toEqual({
    kind: "prove",
    method: "scram-sha-256",
    map: null,
  });
});

test("the first rule that matches decides", () => {
  const access = accessOf([
    rule({ users: ["app"], method: "md5" }),
    rule({ method: "reject" }),
    rule({ method: "trust" }),
  ]);
  expect(access(request())).toMatchObject({ method: "md5" });
  expect(access(request({ user: "other" }))).toEqual({
    kind: "refused",
    message: 'access rule 2 rejects host "10.0.0.7", user "other", database "shop", no encryption',
  });
});

describe("a rule matches", () => {
  test.each<[string, Partial<AccessRule>, Partial<AccessRequest>, boolean]>([
    ["a database by its name", { databases: ["other", "shop"] }, {}, true],
    ["no other database", { databases: ["other"] }, {}, false],
    ["no database by a part of its name", { databases: ["sho"] }, {}, false],
    ["a user by its name", { users: ["app"] }, {}, true],
    ["no user in another case", { users: ["App"] }, {}, false],
    ["an address in its network", { addresses: ["192.0.2.0/24", "10.0.0.0/8"] }, {}, true],
    ["no address outside", { addresses: ["192.0.2.0/24"] }, {}, false],
    ["one address", { addresses: ["10.0.0.7"] }, {}, true],
    ["a link-local address", { addresses: ["fe80::/10"] }, { address: "fe80::1%eth0" }, true],
    ["IPv6", { addresses: ["fd00::/8"] }, { address: "fd12::1" }, true],
    ["IPv4 by no IPv6 network, even the widest", { addresses: ["::/0"] }, {}, false],
    ["IPv6 by no IPv4 network, even the widest", { addresses: ["0.0.0.0/0"] }, { address: "fd12::1" }, false],
    ["with TLS when it asks for it", { tls: "required" }, { encrypted: true }, true],
    ["not without TLS when it asks for it", { tls: "required" }, {}, false],
    ["replication by its word", { databases: ["replication"] }, { replication: "physical" }, true],
    ["replication not by all", { databases: ["all"] }, { replication: "physical" }, false],
    ["replication not by a database", { databases: ["shop"] }, { replication: "physical" }, false],
    ["logical replication by its database", { databases: ["shop"] }, { replication: "logical" }, true],
    ["logical replication by all", { databases: ["all"] }, { replication: "logical" }, true],
    [
      "logical replication not by the word",
      { databases: ["replication"] },
      { replication: "logical" },
      false,
    ],
    [
      "not a database that is called replication",
      { databases: ["replication"] },
      { database: "replication" },
      false,
    ],
  ])("%s", (_, of, with_, matches) => {
    expect(accessOf([rule(of)])(request(with_)).kind).toBe(matches ? "prove" : "refused");
  });
});

test("what nobody lets in is told what was looked at", () => {
  const none = accessOf([rule({ users: ["nobody"] })]);
  expect(none(request({ encrypted: true }))).toEqual({
    kind: "refused",
    message: 'no access rule for host "10.0.0.7", user "app", database "shop", TLS encryption',
  });
  expect(none(request({ replication: "physical" }))).toEqual({
    kind: "refused",
    message: 'no access rule for replication connection from host "10.0.0.7", user "app", no encryption',
  });
});
