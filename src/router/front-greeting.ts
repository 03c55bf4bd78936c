import { MalformedMessage } from "../pgwire/malformed.ts";
import { readStartup, type StartupPacket } from "../pgwire/startup.ts";
import type { FrontListener } from "./front-ports.ts";
import type { Intake, Parser } from "./intake.ts";
import type { NetSocket } from "./net-socket.ts";
import { readProxyHeader } from "./proxy-protocol.ts";
import { Refusal } from "./refusal.ts";
import { alpnProtocol, type ClientCertificate, clientCertificateOf, endPointOf } from "./tls.ts";

/** Where a client speaks from, and how. */
interface Origin {
  /** Of the client itself, also where a proxy stands between. */
  readonly address: string;
  readonly port: number;
  /** The channel binding; null = not encrypted, or none possible. */
  readonly endPoint: Buffer | null;
  readonly certificate: ClientCertificate;
}

/** How a connection begins once it is settled whether it is encrypted, and who speaks. */
export type Greeting = Origin & Exclude<StartupPacket, { kind: "ssl-request" | "gssenc-request" }>;

/** The first byte of a TLS handshake; a first packet of PostgreSQL begins with 0, for it is short. */
export const tlsHandshake = 0x16;
/** The answers to a request for encryption. */
export const yes = Buffer.from("S");
export const no = Buffer.from("N");

/**
 * Reads what comes before a start-up message: a PROXY header, TLS in either way, requests for encryption.
 * @throws {ClientGone | MalformedMessage | Refusal}
 */
export async function greet(socket: NetSocket, intake: Intake, listener: FrontListener): Promise<Greeting> {
  const from = await speaker(socket, intake, listener);
  const plain = { endPoint: null, certificate: { kind: "none" } } as const;
  if ((await intake.take(firstByte)) === tlsHandshake) {
    const secured = await secure(socket, intake, listener, true);
    return begin(await packet(intake), { ...from, ...secured });
  }
  for (let asked = 0; ; asked += 1) {
    const start = await packet(intake);
    if (start.kind !== "ssl-request" && start.kind !== "gssenc-request")
      return begin(start, { ...from, ...plain });
    // Each kind of encryption may be asked for once, as libpq does it.
    if (asked >= 2) throw new MalformedMessage("start-up", "encryption is asked for again and again");
    // Whoever sends more before the answer is not a client: somebody on the way puts words into its mouth.
    if (intake.left > 0)
      throw new MalformedMessage("start-up", "bytes that came before encryption was agreed");
    if (start.kind === "ssl-request" && listener.tls !== null) {
      socket.write(yes, 0, 1);
      const secured = await secure(socket, intake, listener, false);
      return begin(await packet(intake), { ...from, ...secured });
    }
    socket.write(no, 0, 1);
  }
}

/** Who speaks: the peer, or whom a proxy names that is believed. @throws {ClientGone | MalformedMessage} */
export async function speaker(
  socket: NetSocket,
  intake: Intake,
  { settings, proxies }: Pick<FrontListener, "settings" | "proxies">,
): Promise<{ address: string; port: number }> {
  const peer = { address: socket.remoteAddress, port: socket.remotePort };
  if (!settings.proxyProtocol || !proxies(peer.address)) return peer;
  const { source } = await intake.take(readProxyHeader);
  return source ?? peer;
}

/** Looks at the first byte without taking it. */
export const firstByte: Parser<number> = (bytes) => {
  const [value] = bytes;
  return value === undefined ? null : { value, end: 0 };
};

function packet(intake: Intake): Promise<StartupPacket> {
  return intake.take((bytes) => {
    const found = readStartup(bytes);
    return found === null ? null : { value: found.packet, end: found.end };
  });
}

async function secure(
  socket: NetSocket,
  intake: Intake,
  { tls, settings }: FrontListener,
  direct: boolean,
): Promise<Pick<Origin, "endPoint" | "certificate">> {
  if (tls === null) throw new Refusal("28000", `listener "${settings.name}" has no TLS`);
  intake.release();
  const secured = await socket
    .secure((plain) => tls.secure(plain))
    .catch((thrown: unknown) => {
      throw new MalformedMessage("TLS handshake", thrown instanceof Error ? thrown.message : String(thrown));
    });
  intake.retake();
  // Otherwise any TLS connection to this port, made by a browser for a foreign page, could be led on into our protocol.
  if (direct && secured.alpnProtocol !== alpnProtocol)
    throw new MalformedMessage(
      "TLS handshake",
      `it comes without SSLRequest and without ALPN "${alpnProtocol}"`,
    );
  const certificate = clientCertificateOf(secured);
  if (certificate.kind === "untrusted")
    throw new Refusal("28000", "the client certificate is not trusted", certificate.why);
  return { endPoint: endPointOf(secured), certificate };
}

function begin(start: StartupPacket, origin: Origin): Greeting {
  if (start.kind === "ssl-request" || start.kind === "gssenc-request")
    throw new MalformedMessage("start-up", "encryption is asked for within encryption");
  return { ...start, ...origin };
}
