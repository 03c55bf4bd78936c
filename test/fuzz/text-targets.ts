import { deepStrictEqual, ok, strictEqual } from "node:assert";
import { md5Answer, md5Matches } from "../../src/pgwire/md5.ts";
import { readScramVerifier, scramKeys, sha256 } from "../../src/pgwire/scram.ts";
import { ScramClient } from "../../src/pgwire/scram-client.ts";
import { offeredMechanisms, ScramServer } from "../../src/pgwire/scram-server.ts";
import { scanStatement } from "../../src/pgwire/statement.ts";
import { Secret } from "../../src/values/secret.ts";
import type { Rng } from "../simulation/rng.ts";
import { mutated } from "./mutate.ts";
import type { Target } from "./runner.ts";

const salt = Buffer.alloc(16, 3);
const keys = scramKeys(new Secret("secret"), salt, 4096);
const verifier = { iterations: 4096, salt, storedKey: sha256(keys.clientKey), serverKey: keys.serverKey };
const endPoint = Buffer.alloc(32, 7);

/** Two ends that fit, and the messages they would exchange. */
function exchange(bound: Buffer | null): {
  client: ScramClient;
  server: ScramServer;
  sent: readonly [Buffer, Buffer, Buffer, Buffer];
} {
  const ends = (): { client: ScramClient; server: ScramServer } => {
    const client = new ScramClient(offeredMechanisms(bound), keys, "clientnonce", bound);
    return { client, server: new ScramServer(client.mechanism, verifier, "servernonce", bound) };
  };
  const { client, server } = ends();
  const data = (step: ReturnType<ScramServer["step"]>): Buffer =>
    step.kind === "wrong" ? Buffer.alloc(0) : step.data;
  const first = client.first();
  const challenge = data(server.step(first));
  const final = client.answer(challenge);
  return { ...ends(), sent: [first, challenge, final, data(server.step(final))] };
}

/** Each of the four messages, without and with channel binding. */
const sent = [exchange(null).sent, exchange(endPoint).sent].flat();

/** An input for the end that reads the messages number `places`: which of `sent` it stands for, then the message. */
function message(rng: Rng, places: readonly number[]): Buffer {
  const place = rng.pick(places);
  const text = rng.chance(0.2) ? sent[place]! : mutated(rng, rng.chance(0.8) ? [sent[place]!] : sent);
  return Buffer.concat([Buffer.from([place]), text]);
}

export const scramServer: Target = {
  name: "SCRAM, server",
  make: (rng) => message(rng, [0, 2, 4, 6]),
  run: (input) => {
    const place = input[0] ?? 0;
    const text = input.subarray(1);
    const { server, sent: good } = exchange(place > 3 ? endPoint : null);
    server.step(place % 4 === 0 ? text : good[0]);
    const proven = server.step(place % 4 === 0 ? good[2] : text).kind === "proven";
    // A first message that was changed may be fine by itself, but the proof of another one then is not.
    strictEqual(proven, text.equals(sent[place]!));
  },
};

export const scramClient: Target = {
  name: "SCRAM, client",
  make: (rng) => message(rng, [1, 3, 5, 7]),
  run: (input) => {
    const place = input[0] ?? 0;
    const text = input.subarray(1);
    const { client, sent: good } = exchange(place > 3 ? endPoint : null);
    client.answer(place % 4 === 1 ? text : good[1]);
    client.verify(place % 4 === 1 ? good[3] : text);
    ok(text.equals(sent[place]!), "a server was believed that said something else");
  },
};

const bob = "md58cc7ff7afbc8551bd526b65944c17b36";
const md5Salt = Buffer.from([1, 2, 3, 4]);
const answer = md5Answer(bob, md5Salt);
const stored = `SCRAM-SHA-256$4096:${salt.toString("base64")}$${verifier.storedKey.toString("base64")}:${verifier.serverKey.toString("base64")}`;

export const storedPasswords: Target = {
  name: "stored password",
  make: (rng) => mutated(rng, [Buffer.from(answer), Buffer.from(bob), Buffer.from(stored)]),
  run: (input) => {
    const text = input.toString("latin1");
    strictEqual(md5Matches(bob, md5Salt, text), text === answer);
    md5Matches(text, md5Salt, answer);
    const read = readScramVerifier(text);
    if (read === null) return;
    const again = [read.salt, read.storedKey, read.serverKey].map((part) => part.toString("base64"));
    strictEqual(text, `SCRAM-SHA-256$${read.iterations}:${again[0]}$${again[1]}:${again[2]}`);
  },
};

const fragments = [
  ..."select insert update delete with begin commit rollback end abort set reset local session prepare".split(
    " ",
  ),
  ..."transaction execute deallocate listen temp temporary into create or replace function as atomic case".split(
    " ",
  ),
  ..."declare c cursor hold call do prepared to work from t a.b app.tenant = true false null".split(" "),
  ..."set_config( pg_advisory_lock( pg_try_advisory_xact_lock( pg_temp. f( ) ( , ; $1 $2 1 'x' 'a.b'".split(
    " ",
  ),
  ..."' '' \" \"\" $$ $x$ E' e'\\' U&' U&\" /* */ -- \n \\ \u00e4 \0".split(" "),
];

function soup(rng: Rng): Buffer {
  const words = Array.from({ length: 1 + rng.below(12) }, () => rng.pick(fragments));
  return Buffer.from(words.join(rng.pick([" ", "", "\n"])), "latin1");
}

/** Facts of a text, with its names in order. */
function facts(sql: string, plain: boolean): unknown {
  const { settings, settingParameters, ...rest } = scanStatement(sql, plain);
  return { ...rest, settings: [...settings].sort(), settingParameters: [...settingParameters].sort() };
}

export const statements: Target = {
  name: "statement",
  make: (rng) => (rng.chance(0.8) ? soup(rng) : mutated(rng, [soup(rng), soup(rng)])),
  run: (input, rng) => {
    const sql = input.toString("latin1");
    const plain = rng.chance(0.8);
    const found = facts(sql, plain);
    // The short way for common statements says what the long way says, which a comment leads to.
    deepStrictEqual(facts(`/**/${sql}`, plain), found);
    // Quoted, it is a string and does nothing.
    const mark = "$fuzz$";
    if (sql.includes(mark) || sql.endsWith("$")) return;
    deepStrictEqual(facts(`select ${mark}${sql}${mark}`, plain), facts("select 1", true));
    const behind = scanStatement(`select ${mark}${sql}${mark}; set a.b = 1`, plain);
    ok(behind.touchesSession && behind.settings.includes("a.b"), "nothing was seen behind a string");
  },
};
