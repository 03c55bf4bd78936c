import { MalformedMessage } from "../pgwire/malformed.ts";
import { readStartup, type StartupPacket } from "../pgwire/startup.ts";
import type { Access, AccessRequest } from "./access.ts";
import type { Route } from "./backend.ts";
import { claimed } from "./front-claim.ts";
import { firstByte, no, speaker, tlsHandshake, yes } from "./front-greeting.ts";
import type { FrontListener } from "./front-ports.ts";
import { Intake, type Parser } from "./intake.ts";
import type { Release } from "./limits.ts";
import type { NetSocket } from "./net-socket.ts";
import { Refusal } from "./refusal.ts";

/** A server that was found for a client, and the client's place there. */
export interface Reached {
  readonly server: NetSocket;
  readonly route: Route;
  readonly place: Release;
}

/** What stands between a client of the path `stream` and its server. */
export interface StreamDoor {
  readonly listener: Pick<FrontListener, "settings" | "proxies">;
  /** null = there are no rules: who may log in is PostgreSQL's own affair. */
  readonly access: Access | null;
  /** A server for this client. */
  readonly connect: () => Promise<Reached>;
}

/** What TLS hides. That no rule asks for it is seen to when the router's file is read. */
const hidden = { user: "", database: "", replication: "no" } as const;

interface Opening {
  readonly packet: StartupPacket;
  /** As they came, for the server. */
  readonly bytes: Buffer;
}

/**
 * Lets a client of the path `stream` in: reads what comes before its session as far as rules ask for it, and passes it on.
 * The client's reads are stopped afterwards, and what it sent and nobody took is read again.
 * @returns the server, which has been sent what the client began with
 * @throws {Refusal | ClientGone | MalformedMessage} and what `connect` throws; the server is let go then
 */
export async function throughDoor(client: NetSocket, door: StreamDoor): Promise<Reached> {
  const { settings } = door.listener;
  const looks = door.access !== null || settings.tls.mode !== "allow";
  if (!looks && !settings.proxyProtocol) return door.connect();
  const intake = new Intake(client);
  const { address } = await speaker(client, intake, door.listener);
  const reached = looks ? await introduce(client, intake, address, door) : await door.connect();
  intake.release();
  return reached;
}

async function introduce(
  client: NetSocket,
  intake: Intake,
  address: string,
  door: StreamDoor,
): Promise<Reached> {
  const { tls } = door.listener.settings;
  if ((await intake.take(firstByte)) === tlsHandshake) {
    decide(door, { ...hidden, address, encrypted: true });
    return door.connect();
  }
  let reached: Reached | null = null;
  try {
    for (let asked = 0; ; asked += 1) {
      const { packet, bytes } = await intake.take(opening);
      if (packet.kind === "ssl-request" || packet.kind === "gssenc-request") {
        if (asked >= 2) throw new MalformedMessage("start-up", "encryption is asked for again and again");
        if (intake.left > 0)
          throw new MalformedMessage("start-up", "bytes that came before encryption was agreed");
        if (packet.kind === "ssl-request" && tls.mode !== "disable") {
          reached ??= await door.connect();
          if (await takesTls(reached.server, bytes)) {
            decide(door, { ...hidden, address, encrypted: true });
            client.write(yes, 0, 1);
            return reached;
          }
        }
        client.write(no, 0, 1);
        continue;
      }
      // A request to cancel names no user: its key says what it may.
      if (packet.kind === "startup")
        decide(door, { ...claimed({ ...packet, ...plain(address) }), encrypted: false });
      reached ??= await door.connect();
      reached.server.write(bytes, 0, bytes.length);
      return reached;
    }
  } catch (thrown) {
    reached?.server.destroy();
    reached?.place();
    throw thrown;
  }
}

/** @throws {Refusal} no rule lets the client in, or it must come by TLS and does not */
function decide({ access, listener }: StreamDoor, request: AccessRequest): void {
  const { name, tls } = listener.settings;
  if (!request.encrypted && tls.mode === "require")
    throw new Refusal(
      "28000",
      `listener "${name}" takes encrypted connections alone`,
      undefined,
      "Connect with sslmode=require.",
    );
  if (request.encrypted && tls.mode === "disable")
    throw new Refusal("28000", `listener "${name}" has no TLS`);
  const decision = access?.(request);
  if (decision?.kind === "refused") throw new Refusal("28000", decision.message);
}

const opening: Parser<Opening> = (bytes) => {
  const found = readStartup(bytes);
  if (found === null) return null;
  return {
    value: { packet: found.packet, bytes: Buffer.from(bytes.subarray(0, found.end)) },
    end: found.end,
  };
};

const firstByteTaken: Parser<number> = ([value]) => (value === undefined ? null : { value, end: 1 });

function plain(address: string) {
  return { address, port: 0, endPoint: null, certificate: { kind: "none" } } as const;
}

/** Asks the server for TLS in the client's words. */
async function takesTls(server: NetSocket, request: Buffer): Promise<boolean> {
  const intake = new Intake(server);
  server.write(request, 0, request.length);
  const answer = await intake.take(firstByteTaken).catch(() => null);
  intake.release();
  if (answer === yes[0] || answer === no[0]) return answer === yes[0];
  throw new Error("the server answers a request for TLS with neither yes nor no");
}
