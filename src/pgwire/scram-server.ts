import { timingSafeEqual } from "node:crypto";
import {
  Attributes,
  base64,
  channelBindingType,
  hmac,
  isNonce,
  keyLength,
  ScramError,
  type ScramKeys,
  scramSha256,
  scramSha256Plus,
  type ScramVerifier,
  sha256,
  xor,
} from "./scram.ts";

/** What to send next, or how it ended. */
export type ScramStep =
  /** As AuthenticationSASLContinue. */
  | { readonly kind: "continue"; readonly data: Buffer }
  /** The password is right. `data` goes out as AuthenticationSASLFinal; the keys log in to PostgreSQL in the client's name. */
  | { readonly kind: "proven"; readonly data: Buffer; readonly keys: ScramKeys }
  | { readonly kind: "wrong" };

/** What to offer in AuthenticationSASL, best first. @param endPoint as for ScramServer */
export function offeredMechanisms(endPoint: Buffer | null): readonly string[] {
  return endPoint === null ? [scramSha256] : [scramSha256Plus, scramSha256];
}

/** The server's end of one SCRAM exchange (RFC 5802, 7677, 5929). Give it the client's messages in order. */
export class ScramServer {
  readonly #plus: boolean;
  readonly #endPoint: Buffer | null;
  readonly #verifier: ScramVerifier;
  #nonce: string;
  #step: "first" | "final" | "over" = "first";
  #header = "";
  #clientFirst = "";
  #serverFirst = "";

  /**
   * @param mechanism what the client chose
   * @param nonce at least 18 random bytes in base64 or base64url
   * @param endPoint the hash of the server's certificate as `tls-server-end-point` wants it; null = the connection is not
   * encrypted, or PLUS is not offered
   * @throws {ScramError} the mechanism was not offered
   */
  constructor(mechanism: string, verifier: ScramVerifier, nonce: string, endPoint: Buffer | null) {
    if (!offeredMechanisms(endPoint).includes(mechanism))
      throw new ScramError("08P01", "client selected an invalid SASL authentication mechanism");
    this.#plus = mechanism === scramSha256Plus;
    this.#verifier = verifier;
    this.#nonce = nonce;
    this.#endPoint = endPoint;
  }

  /** @throws {ScramError} the exchange cannot go on */
  step(message: Buffer): ScramStep {
    // One character per byte: what is signed are the bytes that were sent.
    const text = message.toString("latin1");
    if (this.#step === "first") {
      // A client may leave its first message out of its choice of the mechanism.
      if (text === "") return { kind: "continue", data: Buffer.alloc(0) };
      this.#step = "final";
      return { kind: "continue", data: this.#first(text) };
    }
    if (this.#step === "over") throw new ScramError("08P01", "unexpected SASL message");
    this.#step = "over";
    return this.#final(text);
  }

  #first(text: string): Buffer {
    const header = /^([^,]*),([^,]*),/.exec(text);
    if (header === null) throw new ScramError("08P01", "malformed SCRAM message (header expected)");
    this.#checkBinding(header[1] ?? "");
    if (header[2] !== "")
      throw header[2]?.startsWith("a=") === true
        ? new ScramError("0A000", "client uses authorization identity, but it is not supported")
        : new ScramError("08P01", "malformed SCRAM message (unexpected attribute in the header)");
    this.#header = header[0];
    this.#clientFirst = text.slice(header[0].length);
    if (this.#clientFirst.startsWith("m="))
      throw new ScramError("0A000", "client requires an unsupported SCRAM extension");
    const attributes = new Attributes(this.#clientFirst);
    // The name in it is ignored, as PostgreSQL does: the start-up packet said who logs in.
    attributes.take("n");
    const clientNonce = attributes.take("r");
    attributes.skipExtensions(0);
    if (!isNonce(clientNonce)) throw new ScramError("08P01", "non-printable characters in SCRAM nonce");
    this.#nonce = clientNonce + this.#nonce;
    const { salt, iterations } = this.#verifier;
    this.#serverFirst = `r=${this.#nonce},s=${salt.toString("base64")},i=${iterations}`;
    return Buffer.from(this.#serverFirst, "latin1");
  }

  #checkBinding(flag: string): void {
    if (flag === "n" || flag === "y") {
      if (this.#plus)
        throw new ScramError(
          "08P01",
          "the client selected SCRAM-SHA-256-PLUS, but sent no channel binding data",
        );
      // The client could bind and believes that we cannot, but we offered it: somebody took the offer out on the way.
      if (flag === "y" && this.#endPoint !== null)
        throw new ScramError("28000", "SCRAM channel binding negotiation error");
      return;
    }
    if (!flag.startsWith("p="))
      throw new ScramError("08P01", "malformed SCRAM message (channel binding flag)");
    if (!this.#plus)
      throw new ScramError(
        "08P01",
        "the client selected SCRAM-SHA-256 without channel binding, but sent channel binding data",
      );
    if (flag !== `p=${channelBindingType}`)
      throw new ScramError("08P01", "unsupported SCRAM channel-binding type");
  }

  #final(text: string): ScramStep {
    const attributes = new Attributes(text);
    const binding = attributes.take("c");
    const nonce = attributes.take("r");
    attributes.skipExtensions(1);
    const proof = base64(attributes.take("p"));
    if (nonce !== this.#nonce) throw new ScramError("08P01", "nonce does not match");
    if (proof?.length !== keyLength) throw new ScramError("08P01", "malformed SCRAM message (proof)");
    const bound = Buffer.concat([
      Buffer.from(this.#header, "latin1"),
      (this.#plus ? this.#endPoint : null) ?? Buffer.alloc(0),
    ]);
    if (binding !== bound.toString("base64"))
      throw new ScramError("28000", "SCRAM channel binding check failed");
    const signed = `${this.#clientFirst},${this.#serverFirst},${text.slice(0, text.lastIndexOf(",p="))}`;
    const { storedKey, serverKey } = this.#verifier;
    const clientKey = xor(proof, hmac(storedKey, signed, "latin1"));
    if (!timingSafeEqual(sha256(clientKey), storedKey)) return { kind: "wrong" };
    const signature = hmac(serverKey, signed, "latin1").toString("base64");
    return { kind: "proven", data: Buffer.from(`v=${signature}`, "latin1"), keys: { clientKey, serverKey } };
  }
}
