import { execFile } from "node:child_process";
import { X509Certificate, createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { type AddressInfo, type Server, type Socket, connect, createServer } from "node:net";
import type { Duplex } from "node:stream";
import { TLSSocket, connect as connectTls, createSecureContext } from "node:tls";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  decodeAuthentication,
  decodePasswordMessage,
  decodeSaslInitialResponse,
  decodeServerMessage,
} from "../../src/pgwire/decode.ts";
import * as encode from "../../src/pgwire/encode.ts";
import { md5Answer, md5Matches } from "../../src/pgwire/md5.ts";
import { MessageReader, type WireMessage } from "../../src/pgwire/message-reader.ts";
import { fromClient, fromServer } from "../../src/pgwire/message-types.ts";
import { ScramClient } from "../../src/pgwire/scram-client.ts";
import { offeredMechanisms, ScramServer } from "../../src/pgwire/scram-server.ts";
import { mockScramVerifier, readScramVerifier, type ScramKeys } from "../../src/pgwire/scram.ts";
import {
  encodeSslRequest,
  encodeStartup,
  readStartup,
  type StartupPacket,
} from "../../src/pgwire/startup.ts";
import { Secret } from "../../src/values/secret.ts";
import { type CertificateFiles, makeCertificates } from "../support/certificates.ts";
import { binDir, connectTo, plainSettings, postgresSet, type TestPostgres } from "../support/postgres.ts";

const run = promisify(execFile);
const set = postgresSet("pw");
const nonce = (): string => randomBytes(18).toString("base64");
const passwords = { alice: new Secret("wonder'land \u00e4\u2168"), bob: new Secret("builder") };

let postgres: TestPostgres;
let certificates: CertificateFiles;
let endPoint: Buffer;
let relay: Server;
/** What the relay's clients chose to prove themselves, in order. */
const chosen: string[] = [];

/** One end of a connection, message by message. */
class Wire {
  readonly stream: Duplex;
  readonly #reader = new MessageReader();

  constructor(stream: Duplex) {
    this.stream = stream;
    stream.on("error", () => undefined);
  }

  async next(): Promise<WireMessage> {
    for (;;) {
      const message = this.#reader.next();
      if (message !== null) return message;
      this.#reader.push(await readable(this.stream));
    }
  }

  /** What came behind the last message; the stream is the caller's then. */
  rest(): Buffer {
    return this.#reader.rest();
  }
}

async function readable(stream: Duplex): Promise<Buffer> {
  for (;;) {
    const chunk = stream.read() as Buffer | null;
    if (chunk !== null) return chunk;
    if (stream.readableEnded || stream.destroyed) throw new Error("the other side closed the connection");
    await Promise.race([once(stream, "readable"), once(stream, "end"), once(stream, "close")]);
  }
}

/** Logs in to PostgreSQL itself. @returns the connection, just before its first ParameterStatus */
async function logIn(
  user: keyof typeof passwords,
  secret: Secret | ScramKeys | { md5: string },
  bound: boolean,
): Promise<Wire> {
  let stream: Duplex = connect(postgres.port, "127.0.0.1");
  await once(stream, "connect");
  if (bound) {
    stream.write(encodeSslRequest());
    expect((await readable(stream)).toString()).toBe("S");
    stream = connectTls({ socket: stream, ca: readFileSync(certificates.caFile) });
    await once(stream, "secureConnect");
  }
  const wire = new Wire(stream);
  stream.write(
    encodeStartup([
      ["user", user],
      ["database", "postgres"],
    ]),
  );
  let client: ScramClient | null = null;
  for (;;) {
    const { type, body } = await wire.next();
    if (type === fromServer.error) throw new Error(decodeServerMessage(body).message);
    const asked = decodeAuthentication(body);
    if (asked.kind === "ok") return wire;
    if (asked.kind === "md5" && "md5" in secret)
      stream.write(encode.passwordMessage(md5Answer(secret.md5, asked.salt)));
    else if (asked.kind === "sasl" && !("md5" in secret)) {
      client = new ScramClient(asked.mechanisms, secret, nonce(), bound ? endPoint : null);
      expect(client.mechanism).toBe(bound ? "SCRAM-SHA-256-PLUS" : "SCRAM-SHA-256");
      stream.write(encode.saslInitialResponse(client.mechanism, client.first()));
    } else if (asked.kind === "sasl-continue" && client !== null)
      stream.write(encode.saslResponse(client.answer(asked.data)));
    else if (asked.kind === "sasl-final" && client !== null) client.verify(asked.data);
    else throw new Error(`PostgreSQL asks for ${asked.kind}`);
  }
}

async function stored(user: string): Promise<string> {
  const [row] = await postgres.sql(`select rolpassword from pg_authid where rolname = '${user}'`);
  return typeof row?.["rolpassword"] === "string" ? row["rolpassword"] : "";
}

/** Admits a client of the relay by what PostgreSQL stores. @returns what logs it in there; null = refused */
async function admit(
  wire: Wire,
  user: string,
  bound: Buffer | null,
): Promise<ScramKeys | { md5: string } | null> {
  const verifier = await stored(user);
  if (verifier.startsWith("md5")) {
    const salt = randomBytes(4);
    wire.stream.write(encode.authenticationMd5Password(salt));
    const answer = decodePasswordMessage((await wire.next()).body);
    return md5Matches(verifier, salt, answer) ? { md5: verifier } : null;
  }
  wire.stream.write(encode.authenticationSasl(offeredMechanisms(bound)));
  const { type, body } = await wire.next();
  expect(type).toBe(fromClient.password);
  const { mechanism, data } = decodeSaslInitialResponse(body);
  chosen.push(mechanism);
  const server = new ScramServer(
    mechanism,
    readScramVerifier(verifier) ?? mockScramVerifier(user, Buffer.alloc(32, 1)),
    nonce(),
    bound,
  );
  for (let message = data; ; message = (await wire.next()).body) {
    const step = server.step(message);
    if (step.kind === "wrong") return null;
    if (step.kind === "continue") wire.stream.write(encode.authenticationSaslContinue(step.data));
    else {
      wire.stream.write(encode.authenticationSaslFinal(step.data));
      return step.keys;
    }
  }
}

/** A client of the relay: proves itself to us, is logged in to PostgreSQL with what we recovered, and then talks to it. */
async function serve(socket: Socket): Promise<void> {
  let stream: Duplex = socket;
  let bound: Buffer | null = null;
  let packet: StartupPacket;
  for (;;) {
    const first = readStartup(await readable(stream));
    if (first === null) throw new Error("a first packet in pieces");
    packet = first.packet;
    if (packet.kind !== "ssl-request") break;
    stream.write("S");
    const context = createSecureContext({
      cert: readFileSync(certificates.certFile),
      key: readFileSync(certificates.keyFile),
    });
    stream = new TLSSocket(socket, { isServer: true, secureContext: context });
    await once(stream, "secure");
    bound = endPoint;
  }
  if (packet.kind !== "startup") throw new Error(`a ${packet.kind}`);
  const wire = new Wire(stream);
  const user = packet.parameters.get("user") ?? "";
  const secret = await admit(wire, user, bound);
  if (secret === null) {
    const message = `password authentication failed for user "${user}"`;
    stream.end(encode.errorResponse({ severity: "FATAL", code: "28P01", message, hint: "from the relay" }));
    return;
  }
  const server = await logIn(user as keyof typeof passwords, secret, bound !== null);
  stream.write(Buffer.concat([encode.authenticationOk(), server.rest()]));
  server.stream.write(wire.rest());
  stream.pipe(server.stream);
  server.stream.pipe(stream);
}

/** Runs psql through the relay. */
async function psql(user: string, password: string, more: string): Promise<string> {
  const { port } = relay.address() as AddressInfo;
  const target = `host=127.0.0.1 port=${port} dbname=postgres user=${user} ${more}`;
  const { stdout } = await run(`${binDir}/psql`, ["-XAtc", "select current_user, 6 * 7", target], {
    env: { ...process.env, PGPASSWORD: password, PGSSLROOTCERT: certificates.caFile },
    timeout: 20_000,
  });
  return stdout.trim();
}

beforeAll(async () => {
  certificates = (await makeCertificates(set.dir, ["server"])).server;
  endPoint = createHash("sha256")
    .update(new X509Certificate(readFileSync(certificates.certFile)).raw)
    .digest();
  await run("chmod", ["600", certificates.keyFile]);
  postgres = await set.primary("p", {
    ...plainSettings,
    hba: ["host all all all md5"],
    parameters: {
      ...plainSettings.parameters,
      ssl: "on",
      ssl_cert_file: certificates.certFile,
      ssl_key_file: certificates.keyFile,
    },
  });
  const quoted = (secret: Secret): string => `'${secret.reveal().replaceAll("'", "''")}'`;
  await postgres.sql(
    `set password_encryption = 'scram-sha-256'; create role alice login password ${quoted(passwords.alice)}`,
  );
  await postgres.sql(
    `set password_encryption = 'md5'; create role bob login password ${quoted(passwords.bob)}`,
  );
  relay = createServer((socket) => void serve(socket).catch(() => socket.destroy()));
  relay.listen(0, "127.0.0.1");
  await once(relay, "listening");
});
afterAll(async () => {
  relay.close();
  await set.remove();
});

describe("PostgreSQL lets in", () => {
  const greets = async (wire: Wire): Promise<void> => {
    expect((await wire.next()).type).toBe(fromServer.parameterStatus);
    wire.stream.destroy();
  };

  test("a password, in clear and encrypted with channel binding", async () => {
    await greets(await logIn("alice", passwords.alice, false));
    await greets(await logIn("alice", passwords.alice, true));
  });

  test("the hash of an md5 user, which is the one we compute", async () => {
    const hash = await stored("bob");
    expect(hash).toBe(`md5${createHash("md5").update(`${passwords.bob.reveal()}bob`).digest("hex")}`);
    await greets(await logIn("bob", { md5: hash }, false));
  });

  test("nobody with keys of another password", async () => {
    const wrong = { clientKey: randomBytes(32), serverKey: randomBytes(32) };
    await expect(logIn("alice", wrong, false)).rejects.toThrow(/password authentication failed/);
  });
});

describe("libpq, proven to us and logged in to PostgreSQL by what its proof told", () => {
  test("with SCRAM in clear", async () => {
    chosen.length = 0;
    expect(await psql("alice", passwords.alice.reveal(), "sslmode=disable")).toBe("alice|42");
    expect(chosen).toEqual(["SCRAM-SHA-256"]);
  });

  test("with SCRAM bound to its channel, on both legs", async () => {
    chosen.length = 0;
    const strict = "sslmode=verify-full channel_binding=require";
    expect(await psql("alice", passwords.alice.reveal(), strict)).toBe("alice|42");
    expect(chosen).toEqual(["SCRAM-SHA-256-PLUS"]);
  });

  test("with SCRAM, encrypted but not bound because it does not want to", async () => {
    chosen.length = 0;
    const loose = "sslmode=require channel_binding=disable";
    expect(await psql("alice", passwords.alice.reveal(), loose)).toBe("alice|42");
    expect(chosen).toEqual(["SCRAM-SHA-256"]);
  });

  test("with md5", async () => {
    expect(await psql("bob", passwords.bob.reveal(), "sslmode=disable")).toBe("bob|42");
  });

  test.each(["alice", "bob", "nobody"])("not with a wrong password: %s", async (user) => {
    await expect(psql(user, "wrong", "sslmode=prefer")).rejects.toThrow(
      new RegExp(`FATAL: {2}password authentication failed for user "${user}"\nHINT: {2}from the relay`),
    );
  });

  test("until the password changes: the keys of the old one are worth nothing", async () => {
    const session = await connectTo(postgres);
    await session.query("create role carol login password 'first'");
    const before = readScramVerifier(await stored("carol"));
    await session.query("alter role carol password 'second'");
    await session.end();
    const after = readScramVerifier(await stored("carol"));
    expect(before?.storedKey).not.toEqual(after?.storedKey);
    await expect(psql("carol", "first", "sslmode=disable")).rejects.toThrow(/authentication failed/);
    expect(await psql("carol", "second", "sslmode=disable")).toBe("carol|42");
  });
});
