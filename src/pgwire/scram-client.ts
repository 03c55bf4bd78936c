import { timingSafeEqual } from "node:crypto";
import { Secret } from "../values/secret.ts";
import {
  Attributes,
  base64,
  channelBindingType,
  hmac,
  keyLength,
  ScramError,
  type ScramKeys,
  scramKeys,
  scramSha256,
  scramSha256Plus,
  sha256,
  xor,
} from "./scram.ts";

/** More would hold up everybody else on this thread for longer than a second. */
const mostIterations = 2_000_000;

/** The client's end of one SCRAM exchange: `first`, then `answer` to what the server sends, then `verify`. */
export class ScramClient {
  /** To name in SASLInitialResponse. */
  readonly mechanism: string;
  readonly #secret: ScramKeys | Secret;
  readonly #nonce: string;
  readonly #header: string;
  readonly #binding: Buffer;
  #serverKey: Buffer | null = null;
  #signed = "";

  /**
   * @param mechanisms the server's offer
   * @param secret recovered keys, or a password; the keys fit only the very verifier they came from
   * @param nonce at least 18 random bytes in base64 or base64url
   * @param endPoint the hash of the server's certificate (`tls-server-end-point`); null = not encrypted, or not to be bound
   * @throws {ScramError} the server offers nothing of ours
   */
  constructor(
    mechanisms: readonly string[],
    secret: ScramKeys | Secret,
    nonce: string,
    endPoint: Buffer | null,
  ) {
    const plus = endPoint !== null && mechanisms.includes(scramSha256Plus);
    if (!plus && !mechanisms.includes(scramSha256))
      throw new ScramError("0A000", "none of the server's SASL authentication mechanisms are supported");
    this.mechanism = plus ? scramSha256Plus : scramSha256;
    this.#secret = secret;
    this.#nonce = nonce;
    this.#header = plus ? `p=${channelBindingType},,` : endPoint === null ? "n,," : "y,,";
    this.#binding = Buffer.concat([Buffer.from(this.#header), plus ? endPoint : Buffer.alloc(0)]);
  }

  first(): Buffer {
    return Buffer.from(`${this.#header}${this.#bare}`, "latin1");
  }

  /** @throws {ScramError} the server's message is not one, or not an answer to ours */
  answer(serverFirst: Buffer): Buffer {
    const text = serverFirst.toString("latin1");
    const attributes = new Attributes(text);
    const nonce = attributes.take("r");
    const salt = base64(attributes.take("s"));
    const iterations = attributes.take("i");
    attributes.skipExtensions(0);
    if (nonce.length <= this.#nonce.length || !nonce.startsWith(this.#nonce))
      throw new ScramError("08P01", "invalid SCRAM response (nonce mismatch)");
    if (salt === null || salt.length === 0 || !/^[1-9][0-9]{0,9}$/.test(iterations))
      throw new ScramError("08P01", "malformed SCRAM message (salt or iterations)");
    const { clientKey, serverKey } = this.#keys(salt, Number(iterations));
    const withoutProof = `c=${this.#binding.toString("base64")},r=${nonce}`;
    this.#serverKey = serverKey;
    this.#signed = `${this.#bare},${text},${withoutProof}`;
    const proof = xor(clientKey, hmac(sha256(clientKey), this.#signed, "latin1"));
    return Buffer.from(`${withoutProof},p=${proof.toString("base64")}`, "latin1");
  }

  /** @throws {ScramError} the server does not know the verifier: it is not the one we think it is */
  verify(serverFinal: Buffer): void {
    const attributes = new Attributes(serverFinal.toString("latin1"));
    const signature = base64(attributes.take("v"));
    if (attributes.left > 0) throw new ScramError("08P01", "malformed SCRAM message (server's last)");
    if (this.#serverKey === null || signature?.length !== keyLength)
      throw new ScramError("08P01", "malformed SCRAM message (server signature)");
    if (!timingSafeEqual(signature, hmac(this.#serverKey, this.#signed, "latin1")))
      throw new ScramError("28000", "incorrect server signature");
  }

  /** PostgreSQL takes the name from the start-up packet. */
  get #bare(): string {
    return `n=,r=${this.#nonce}`;
  }

  #keys(salt: Buffer, iterations: number): ScramKeys {
    if (!(this.#secret instanceof Secret)) return this.#secret;
    if (iterations > mostIterations)
      throw new ScramError("0A000", `the server asks for ${iterations} iterations`);
    return scramKeys(this.#secret, salt, iterations);
  }
}
