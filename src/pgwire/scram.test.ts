import { describe, expect, it } from "vitest";
import fc from "fast-check";
import { Secret } from "../values/secret.ts";
import { mockScramVerifier, readScramVerifier, ScramError, scramKeys, sha256 } from "./scram.ts";
import { ScramClient } from "./scram-client.ts";
import { offeredMechanisms, ScramServer, type ScramStep } from "./scram-server.ts";

const salt = Buffer.from("W22ZaJ0SNY7soEsUEjb6gQ==", "base64");
const pencil = new Secret("pencil");
const keys = scramKeys(pencil, salt, 4096);
const verifier = {
  iterations: 4096,
  salt,
  storedKey: sha256(keys.clientKey),
  serverKey: keys.serverKey,
};
const serverNonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const endPoint = Buffer.alloc(32, 7);

const dataOf = (step: ScramStep): Buffer => {
  if (step.kind === "wrong") throw new Error("the proof was refused");
  return step.data;
};
const serve = (mechanism = "SCRAM-SHA-256", bound: Buffer | null = null): ScramServer =>
  new ScramServer(mechanism, verifier, serverNonce, bound);
const codeOf = (act: () => unknown): string | undefined => {
  try {
    act();
    return undefined;
  } catch (error) {
    if (error instanceof ScramError) return error.code;
    throw error;
  }
};

describe("the server's end of SCRAM", () => {
  const first = Buffer.from("n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
  const final =
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

  it("answers the exchange of RFC 7677 as it stands there, and recovers the client's key", () => {
    const server = serve();
    expect(dataOf(server.step(first)).toString()).toBe(
      "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    );
    const last = server.step(Buffer.from(final));
    expect(dataOf(last).toString()).toBe("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    expect(last.kind === "proven" && last.keys.clientKey.equals(keys.clientKey)).toBe(true);
    expect(codeOf(() => server.step(Buffer.from(final)))).toBe("08P01");
  });

  it("lets the first message come after the choice of the mechanism", () => {
    const server = serve();
    expect(dataOf(server.step(Buffer.alloc(0)))).toHaveLength(0);
    expect(dataOf(server.step(first)).toString()).toMatch(/^r=/);
    expect(server.step(Buffer.from(final)).kind).toBe("proven");
  });

  it.each([
    ["plain text without encryption", "SCRAM-SHA-256", null, "n", undefined],
    ["a client that could bind where we do not offer it", "SCRAM-SHA-256", null, "y", undefined],
    ["a client that was told we could not bind", "SCRAM-SHA-256", endPoint, "y", "28000"],
    ["a client that does not want to bind", "SCRAM-SHA-256", endPoint, "n", undefined],
    ["binding", "SCRAM-SHA-256-PLUS", endPoint, "p=tls-server-end-point", undefined],
    ["PLUS without binding", "SCRAM-SHA-256-PLUS", endPoint, "n", "08P01"],
    ["PLUS of a client that believes we cannot", "SCRAM-SHA-256-PLUS", endPoint, "y", "08P01"],
    ["another kind of binding", "SCRAM-SHA-256-PLUS", endPoint, "p=tls-unique", "08P01"],
    ["binding without PLUS", "SCRAM-SHA-256", endPoint, "p=tls-server-end-point", "08P01"],
    ["a flag nobody knows", "SCRAM-SHA-256", null, "x", "08P01"],
  ])("checks the channel binding: %s", (_, mechanism, bound, flag, code) => {
    const server = serve(mechanism, bound);
    expect(codeOf(() => server.step(Buffer.from(`${flag},,n=,r=abc`)))).toBe(code);
  });

  it.each([
    ["a mechanism that was not offered", () => serve("SCRAM-SHA-1"), "08P01"],
    ["PLUS that was not offered", () => serve("SCRAM-SHA-256-PLUS"), "08P01"],
    ["another identity", () => serve().step(Buffer.from("n,a=other,n=,r=abc")), "0A000"],
    ["a required extension", () => serve().step(Buffer.from("n,,m=x,n=,r=abc")), "0A000"],
    ["no nonce", () => serve().step(Buffer.from("n,,n=")), "08P01"],
    ["a nonce with a blank", () => serve().step(Buffer.from("n,,n=,r=a b")), "08P01"],
    ["no header", () => serve().step(Buffer.from("n=user")), "08P01"],
  ])("refuses %s", (_, act, code) => expect(codeOf(act)).toBe(code));

  it.each([
    ["another nonce", final.replace("k0,p", "k1,p"), "08P01"],
    ["another channel binding", final.replace("biws", "eSws"), "28000"],
    ["a proof that is too short", final.replace(/p=.*/, "p=dHzb"), "08P01"],
    ["a proof that is not base64", final.replace("p=dHzb", "p=!Hzb"), "08P01"],
    ["something behind the proof", `${final},x=1`, "08P01"],
  ])("refuses in the last message: %s", (_, message, code) => {
    const server = serve();
    server.step(first);
    expect(codeOf(() => server.step(Buffer.from(message)))).toBe(code);
  });

  it("says wrong, not more, to a wrong proof", () => {
    const server = serve();
    server.step(first);
    expect(server.step(Buffer.from(final.replace("p=dHzb", "p=dHzc")))).toEqual({ kind: "wrong" });
  });

  it("gives a user who does not exist the same salt each time, and another to each", () => {
    const secret = Buffer.alloc(32, 1);
    const saltOf = (user: string): string => mockScramVerifier(user, secret).salt.toString("hex");
    expect(saltOf("nobody")).toBe(saltOf("nobody"));
    expect(saltOf("nobody")).not.toBe(saltOf("nobody2"));
    expect(mockScramVerifier("nobody", Buffer.alloc(32, 2)).salt.toString("hex")).not.toBe(saltOf("nobody"));
  });
});

describe("the client's end of SCRAM", () => {
  const talk = (client: ScramClient, server: ScramServer): ScramStep => {
    const answer = client.answer(dataOf(server.step(client.first())));
    const last = server.step(answer);
    if (last.kind === "proven") client.verify(last.data);
    return last;
  };

  it.each([
    ["a password", pencil, null],
    ["recovered keys", keys, null],
    ["a password, bound to the channel", pencil, endPoint],
    ["recovered keys, bound to the channel", keys, endPoint],
  ])("logs in with %s", (_, secret, bound) => {
    const client = new ScramClient(offeredMechanisms(bound), secret, "abcdefgh", bound);
    const server = new ScramServer(client.mechanism, verifier, serverNonce, bound);
    const last = talk(client, server);
    expect(last.kind === "proven" && last.keys.clientKey.equals(keys.clientKey)).toBe(true);
  });

  it("notices who sits in the middle of an encrypted channel", () => {
    const client = new ScramClient(offeredMechanisms(endPoint), keys, "abcdefgh", Buffer.alloc(32, 8));
    const server = new ScramServer(client.mechanism, verifier, serverNonce, endPoint);
    expect(codeOf(() => talk(client, server))).toBe("28000");
  });

  it("is refused with another password", () => {
    const client = new ScramClient(["SCRAM-SHA-256"], new Secret("pencils"), "abcdefgh", null);
    expect(talk(client, serve()).kind).toBe("wrong");
  });

  it("does not believe a server that cannot sign", () => {
    const client = new ScramClient(["SCRAM-SHA-256"], keys, "abcdefgh", null);
    client.answer(dataOf(serve().step(client.first())));
    expect(codeOf(() => client.verify(Buffer.from(`v=${Buffer.alloc(32).toString("base64")}`)))).toBe(
      "28000",
    );
    expect(codeOf(() => client.verify(Buffer.from("e=other-error")))).toBe("08P01");
    expect(codeOf(() => client.verify(Buffer.from(`v=${Buffer.alloc(32).toString("base64")},x=1`)))).toBe(
      "08P01",
    );
  });

  it.each([
    ["a nonce of its own", "r=other,s=QUJD,i=4096", "08P01"],
    ["our nonce alone", "r=abcdefgh,s=QUJD,i=4096", "08P01"],
    ["no salt", "r=abcdefghX,i=4096", "08P01"],
    ["no iterations", "r=abcdefghX,s=QUJD,i=0", "08P01"],
    ["a year of iterations", "r=abcdefghX,s=QUJD,i=2000000000", "0A000"],
  ])("refuses a server that sends %s", (_, message, code) => {
    const client = new ScramClient(["SCRAM-SHA-256"], pencil, "abcdefgh", null);
    expect(codeOf(() => client.answer(Buffer.from(message)))).toBe(code);
  });

  it("knows when nothing of the offer fits", () => {
    expect(codeOf(() => new ScramClient(["SCRAM-SHA-1"], keys, "abcdefgh", null))).toBe("0A000");
    expect(codeOf(() => new ScramClient(["SCRAM-SHA-256-PLUS"], keys, "abcdefgh", null))).toBe("0A000");
  });
});

describe("a stored verifier", () => {
  const text = `SCRAM-SHA-256$4096:${salt.toString("base64")}$${verifier.storedKey.toString("base64")}:${verifier.serverKey.toString("base64")}`;

  it("is read as PostgreSQL stores it", () => expect(readScramVerifier(text)).toEqual(verifier));

  it.each([
    "",
    "md5b5f5ba1a423792b526f799ae4eb3d59e",
    text.slice(0, -1),
    text.replace("4096", "0"),
    `${text}x`,
  ])("is not seen in %j", (other) => expect(readScramVerifier(other)).toBeNull());

  it("is not seen in any other text", () => {
    fc.assert(fc.property(fc.string(), (other) => readScramVerifier(other) === null));
  });
});
