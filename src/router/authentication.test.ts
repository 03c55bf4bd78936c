import { createHash } from "node:crypto";
import { afterEach, describe, expect, test } from "vitest";
import { startup } from "../../test/support/raw-client.ts";
import { accessRule, FrontBench } from "../../test/support/router-front.ts";
import { passwordMessage } from "../pgwire/encode.ts";
import { md5Answer } from "../pgwire/md5.ts";
import { packKeys, scramKeys } from "../pgwire/scram.ts";
import { scramVerifier } from "../postgres/scram-verifier.ts";
import { Secret } from "../values/secret.ts";

const secret = new Secret("a pass word");
/** As PostgreSQL stores the password of an md5 user. */
const md5Stored = `md5${createHash("md5").update(`${secret.reveal()}old`).digest("hex")}`;
const passwords = new Map([
  ["app", scramVerifier(secret)],
  ["operator", scramVerifier(secret)],
  ["old", md5Stored],
]);
const everybody = accessRule({ method: "trust" });
const bench = new FrontBench({ passwords });
afterEach(() => bench.clear());

describe("proof", () => {
  test("SCRAM yields the keys that log in to PostgreSQL", async () => {
    const made = await bench.front();
    const client = await bench.connect(made);
    client.send(startup("app"));
    expect(await client.scram(secret)).toBeNull();
    const [, iterations = "", salt = ""] = /\$(\d+):([^$]+)\$/.exec(passwords.get("app") ?? "") ?? [];
    const keys = scramKeys(secret, Buffer.from(salt, "base64"), Number(iterations));
    expect(made.clients[0]?.credentials).toEqual({ kind: "scram", keys: packKeys(keys) });
  });

  test.each([
    ["a wrong password", "app", "wrong password"],
    ["an unknown user", "nobody", "no such user, or no password"],
    ["an md5 password where SCRAM is asked for", "old", "the stored password is of another kind"],
  ])("%s is told no more than any other", async (_, user, why) => {
    const made = await bench.front();
    const client = await bench.connect(made);
    client.send(startup(user));
    expect(await client.scram(new Secret("guess"))).toEqual({
      severity: "FATAL",
      code: "28P01",
      message: `password authentication failed for user "${user}"`,
    });
    expect(made.log).toMatchObject([{ event: "client.refused", fields: { why } }]);
    expect(made.clients).toHaveLength(0);
  });

  test("md5, by a rule that allows it, yields the stored hash", async () => {
    const made = await bench.front({ settings: { access: [{ ...everybody, method: "md5" }] } });
    const client = await bench.connect(made);
    client.send(startup("old"));
    const { body } = await client.message();
    expect(body.readUInt32BE(0)).toBe(5);
    client.send(passwordMessage(md5Answer(md5Stored, body.subarray(4))));
    expect(await client.outcome()).toBeNull();
    expect(made.clients[0]?.credentials).toEqual({ kind: "md5", stored: md5Stored });
  });

  test("a rule that says md5 lets those with a SCRAM password use it", async () => {
    const made = await bench.front({ settings: { access: [{ ...everybody, method: "md5" }] } });
    const client = await bench.connect(made);
    client.send(startup("app"));
    expect(await client.scram(secret)).toBeNull();
  });

  test("when nobody can say what the password is, the client may try again", async () => {
    const made = await bench.front({
      more: { verifiers: { find: () => Promise.reject(new Error("no agent")) } },
    });
    const client = await bench.connect(made);
    client.send(startup("app"));
    expect(await client.outcome()).toMatchObject({ code: "57P03" });
  });
});

describe("the console", () => {
  test("is a database of its own, for its users, by password whatever the rules say", async () => {
    const made = await bench.front({ settings: { access: [everybody] } });
    const client = await bench.connect(made);
    client.send(startup("operator", { database: "pgherd" }));
    expect(await client.scram(secret)).toBeNull();
    expect(made.consoles).toHaveLength(1);
    const other = await bench.connect(made);
    other.send(startup("app", { database: "pgherd" }));
    expect(await other.outcome()).toMatchObject({ code: "28000" });
    expect(made.clients).toHaveLength(0);
  });

  test("has a port of its own", async () => {
    const made = await bench.front();
    const client = await bench.connect(made, made.fronts.admin.port);
    client.send(startup("operator", { database: "whatever" }));
    expect(await client.scram(secret)).toBeNull();
    expect(made.consoles).toHaveLength(1);
  });
});
