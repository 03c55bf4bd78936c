import { randomBytes } from "node:crypto";
import type { AccessRule } from "../config/router-config.ts";
import { decodePasswordMessage, decodeSaslInitialResponse } from "../pgwire/decode.ts";
import {
  authenticationMd5Password,
  authenticationSasl,
  authenticationSaslContinue,
  authenticationSaslFinal,
} from "../pgwire/encode.ts";
import { MalformedMessage } from "../pgwire/malformed.ts";
import { isMd5Stored, md5Matches } from "../pgwire/md5.ts";
import { fromClient } from "../pgwire/message-types.ts";
import {
  mockScramVerifier,
  packKeys,
  readScramVerifier,
  ScramError,
  type ScramVerifier,
} from "../pgwire/scram.ts";
import { offeredMechanisms, ScramServer, type ScramStep } from "../pgwire/scram-server.ts";
import type { BackendCredentials } from "./client.ts";
import type { Intake } from "./intake.ts";
import type { NetSocket } from "./net-socket.ts";
import { Refusal } from "./refusal.ts";
import type { ClientCertificate } from "./tls.ts";

/** A client that is to prove who it is. */
export interface Claim {
  readonly user: string;
  readonly socket: NetSocket;
  readonly intake: Intake;
  /** The channel binding of the connection; null = not encrypted, or none possible. */
  readonly endPoint: Buffer | null;
  readonly certificate: ClientCertificate;
}

/** What checks a claim. */
export interface Proofs {
  /** rolpassword of pg_authid; null = none. @throws {Refusal} it cannot be known at the moment */
  readonly verifier: (user: string) => Promise<string | null>;
  /** From it the salts of users who do not exist are made. */
  readonly mockSecret: Buffer;
}

/** Why a password was refused, for the log alone: a client is told the same in every case. */
export type Failure =
  "wrong password" | "no such user, or no password" | "the stored password is of another kind";

/** A password that did not fit. */
export class WrongPassword extends Refusal {
  readonly why: Failure;

  constructor(user: string, why: Failure) {
    super("28P01", `password authentication failed for user "${user}"`);
    this.why = why;
  }
}

/**
 * Has the client prove that it is the user it says, up to but without AuthenticationOk.
 * @returns how to log in to PostgreSQL as this user
 * @throws {Refusal} it did not
 * @throws {MalformedMessage | ClientGone}
 */
export async function authenticate(
  method: "scram-sha-256" | "md5" | "trust" | "cert",
  map: AccessRule["map"],
  claim: Claim,
  proofs: Proofs,
): Promise<BackendCredentials> {
  if (method === "trust") return { kind: "none" };
  if (method === "cert") return byCertificate(claim, map);
  const stored = await proofs.verifier(claim.user);
  // As in PostgreSQL: a rule that says md5 lets those with a SCRAM password use SCRAM, not the other way round.
  if (method === "md5" && stored !== null && isMd5Stored(stored)) return byMd5(claim, stored);
  const verifier = stored === null ? null : readScramVerifier(stored);
  const missing: Failure =
    stored === null ? "no such user, or no password" : "the stored password is of another kind";
  return byScram(claim, verifier, missing, proofs.mockSecret);
}

function byCertificate({ user, certificate }: Claim, map: AccessRule["map"]): BackendCredentials {
  const name = certificate.kind === "verified" ? certificate.commonName : null;
  const users = name === null ? [] : map === null ? [name] : (map.get(name) ?? []);
  if (users.includes(user)) return { kind: "none" };
  throw new Refusal(
    "28000",
    `certificate authentication failed for user "${user}"`,
    name === null
      ? "The client showed no certificate that this router trusts."
      : `The certificate is made out to "${name}", which may not be this user.`,
  );
}

async function byMd5({ user, socket, intake }: Claim, stored: string): Promise<BackendCredentials> {
  const salt = randomBytes(4);
  send(socket, authenticationMd5Password(salt));
  const answer = decodePasswordMessage(await password(intake));
  if (!md5Matches(stored, salt, answer)) throw new WrongPassword(user, "wrong password");
  return { kind: "md5", stored };
}

/** @param missing why there is no verifier, should there be none: the exchange is then gone through all the same */
async function byScram(
  { user, socket, intake, endPoint }: Claim,
  verifier: ScramVerifier | null,
  missing: Failure,
  mockSecret: Buffer,
): Promise<BackendCredentials> {
  send(socket, authenticationSasl(offeredMechanisms(endPoint)));
  try {
    const first = decodeSaslInitialResponse(await password(intake));
    const nonce = randomBytes(18).toString("base64");
    const server = new ScramServer(
      first.mechanism,
      verifier ?? mockScramVerifier(user, mockSecret),
      nonce,
      endPoint,
    );
    let step: ScramStep = server.step(first.data);
    while (step.kind === "continue") {
      send(socket, authenticationSaslContinue(step.data));
      step = server.step(await password(intake));
    }
    if (step.kind === "wrong" || verifier === null)
      throw new WrongPassword(user, verifier === null ? missing : "wrong password");
    send(socket, authenticationSaslFinal(step.data));
    return { kind: "scram", keys: packKeys(step.keys) };
  } catch (thrown) {
    if (thrown instanceof ScramError) throw new Refusal(thrown.code, thrown.message);
    throw thrown;
  }
}

async function password(intake: Intake): Promise<Buffer> {
  const { type, body } = await intake.message();
  if (type !== fromClient.password)
    throw new MalformedMessage("login", `a message of type ${type} instead of the password`);
  return body;
}

/** Small messages: whether the kernel has taken them at once does not matter. */
function send(socket: NetSocket, packet: Buffer): void {
  socket.write(packet, 0, packet.length);
}
