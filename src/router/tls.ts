import { constants } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { Socket } from "node:net";
import { join } from "node:path";
import {
  createSecureContext,
  createServer,
  type SecureContextOptions,
  type Server,
  type TLSSocket,
} from "node:tls";
import type { ClientTlsSettings } from "../config/router-config.ts";
import { readIfPresent, writeDurably } from "../postgres/durable-file.ts";
import { Fault } from "../values/fault.ts";
import { certificateHash } from "../pgwire/certificate-hash.ts";
import { type CertificatePair, selfSigned } from "./self-signed.ts";

/** What clients of PostgreSQL 17 name in the TLS handshake, and must name when it comes without an SSLRequest. */
export const alpnProtocol = "postgresql";

/** How long a generated certificate is good for. */
const generatedYears = 10;

/** Where a certificate is kept that nobody gave, and what it is made out to. */
export interface OwnCertificate {
  readonly stateDir: string;
  readonly host: string;
  readonly now: () => Date;
}

interface Handshake {
  readonly resolve: (socket: TLSSocket) => void;
  readonly reject: (error: Error) => void;
}

/** TLS towards the clients of one or more listeners. */
export class ClientTls {
  readonly #server: Server;
  readonly #settings: ClientTlsSettings;
  readonly #own: OwnCertificate;
  /** Handshakes under way, by the two ends of the connection. */
  readonly #waiting = new Map<string, Handshake>();

  private constructor(settings: ClientTlsSettings, own: OwnCertificate, context: SecureContextOptions) {
    this.#settings = settings;
    this.#own = own;
    // Never listens: connections are handed to it after the client has asked for TLS in PostgreSQL's way.
    this.#server = createServer({
      ...context,
      ALPNProtocols: [alpnProtocol],
      requestCert: settings.clientCaFile !== null,
      // A certificate that does not verify is refused with a message of ours, which says why.
      rejectUnauthorized: false,
    });
    this.#server.on("secureConnection", (socket) => {
      const waiting = this.#waiting.get(endsOf(socket));
      if (waiting === undefined) socket.destroy();
      else waiting.resolve(socket);
    });
    this.#server.on("tlsClientError", (error, socket) => {
      this.#waiting.get(endsOf(socket))?.reject(error);
      socket.destroy();
    });
  }

  /** @throws {Fault} CONFIG_UNREADABLE, CONFIG_INVALID */
  static async open(settings: ClientTlsSettings, own: OwnCertificate): Promise<ClientTls> {
    return new ClientTls(settings, own, await readContext(settings, own));
  }

  /** Reads the files again; connections that stand keep what they have. @throws {Fault} the files of before stay in force */
  async reload(): Promise<void> {
    this.#server.setSecureContext(await readContext(this.#settings, this.#own));
  }

  /**
   * Answers a client's handshake.
   * @throws {Error} it failed, or the connection ended
   */
  secure(plain: Socket): Promise<TLSSocket> {
    const ends = endsOf(plain);
    return new Promise<TLSSocket>((resolve, reject) => {
      this.#waiting.set(ends, { resolve, reject });
      plain.once("close", () => reject(new Error("the connection ended in the TLS handshake")));
      this.#server.emit("connection", plain);
    }).finally(() => this.#waiting.delete(ends));
  }
}

async function readContext(settings: ClientTlsSettings, own: OwnCertificate): Promise<SecureContextOptions> {
  const { certFile, keyFile, clientCaFile } = settings;
  const { cert, key } =
    certFile === null || keyFile === null
      ? await ownPair(own)
      : { cert: await readPem(certFile), key: await readPem(keyFile) };
  const context: SecureContextOptions = {
    cert,
    key,
    ...(clientCaFile === null ? {} : { ca: await readPem(clientCaFile) }),
    // As in PostgreSQL: without tickets every connection proves itself anew, and costs less memory.
    secureOptions: constants.SSL_OP_NO_TICKET,
    minVersion: "TLSv1.2",
  };
  try {
    createSecureContext(context);
  } catch (thrown) {
    throw new Fault("CONFIG_INVALID", "The router's certificate cannot be used.", {
      detail: `${certFile ?? own.stateDir}: ${reason(thrown)}`,
      hint: "Give a certificate, its key and the authority of the clients in PEM form.",
    });
  }
  return context;
}

async function ownPair({ stateDir, host, now }: OwnCertificate): Promise<CertificatePair> {
  const [certFile, keyFile] = [join(stateDir, "router.crt"), join(stateDir, "router.key")];
  const [cert, key] = [await readIfPresent(certFile), await readIfPresent(keyFile)];
  if (cert !== null && key !== null) return { cert, key };
  const from = now();
  const until = new Date(from);
  until.setUTCFullYear(from.getUTCFullYear() + generatedYears);
  const pair = selfSigned(host, from, until);
  await writeDurably(keyFile, pair.key);
  await writeDurably(certFile, pair.cert);
  return pair;
}

/** The channel binding of a connection; null = its certificate allows none. */
export function endPointOf(socket: TLSSocket): Buffer | null {
  const own = socket.getX509Certificate();
  return own === undefined ? null : certificateHash(own.raw);
}

/** The certificate a client has shown. */
export type ClientCertificate =
  | { readonly kind: "none" }
  | { readonly kind: "verified"; readonly commonName: string }
  | { readonly kind: "untrusted"; readonly why: string };

/** What a client has shown of itself in the handshake. */
export function clientCertificateOf(socket: TLSSocket): ClientCertificate {
  const { subject } = socket.getPeerCertificate() as { subject?: { CN?: string | string[] } };
  if (subject === undefined) return { kind: "none" };
  if (!socket.authorized) return { kind: "untrusted", why: String(socket.authorizationError) };
  const name = subject.CN;
  if (typeof name !== "string" || name.includes("\0"))
    return { kind: "untrusted", why: "it does not carry exactly one common name" };
  return { kind: "verified", commonName: name };
}

function endsOf(socket: Socket): string {
  return `${socket.remoteAddress} ${socket.remotePort} ${socket.localAddress} ${socket.localPort}`;
}

async function readPem(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (thrown) {
    throw new Fault("CONFIG_UNREADABLE", `${path} cannot be read.`, { detail: reason(thrown) });
  }
}

function reason(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
