import { generateKeyPairSync, randomBytes, sign } from "node:crypto";
import { isIP, isIPv4 } from "node:net";

/** A certificate with its key, both in PEM. */
export interface CertificatePair {
  readonly cert: string;
  readonly key: string;
}

const tags = {
  integer: 0x02,
  bits: 0x03,
  octets: 0x04,
  identifier: 0x06,
  text: 0x0c,
  time: 0x18,
  list: 0x30,
  set: 0x31,
};
const ecdsaWithSha256 = "2a8648ce3d040302";
const commonName = "550403";
const subjectAltName = "551d11";
const basicConstraints = "551d13";

/** The longest common name there is. */
const longestName = 64;

/**
 * Makes a P-256 certificate that vouches for itself: it encrypts, and clients that were given it can check it. ECDSA, because
 * a handshake costs little more than half of what it costs with RSA.
 * @param host a host name or IP address it is made out to
 */
export function selfSigned(host: string, from: Date, until: Date): CertificatePair {
  const pair = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const key = pair.privateKey.export({ type: "pkcs8", format: "pem" }) as string;
  const publicKey = pair.publicKey.export({ type: "spki", format: "der" });
  const algorithm = der(tags.list, identifier(ecdsaWithSha256));
  const name = der(
    tags.list,
    der(
      tags.set,
      der(tags.list, identifier(commonName), der(tags.text, Buffer.from(host.slice(0, longestName)))),
    ),
  );
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40;
  const signed = der(
    tags.list,
    der(0xa0, der(tags.integer, Buffer.from([2]))),
    der(tags.integer, serial),
    algorithm,
    name,
    der(tags.list, time(from), time(until)),
    name,
    publicKey,
    der(
      0xa3,
      der(
        tags.list,
        extension(subjectAltName, alternative(host)),
        extension(basicConstraints, der(tags.list)),
      ),
    ),
  );
  const signature = sign("sha256", signed, pair.privateKey);
  const whole = der(tags.list, signed, algorithm, der(tags.bits, Buffer.from([0]), signature));
  const lines = whole.toString("base64").match(/.{1,64}/g) ?? [];
  return { cert: `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`, key };
}

function der(tag: number, ...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  const header =
    length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...header]), content]);
}

function identifier(hex: string): Buffer {
  return der(tags.identifier, Buffer.from(hex, "hex"));
}

function time(at: Date): Buffer {
  const text = at.toISOString().replace(/[-:T]/g, "").slice(0, 14);
  return der(tags.time, Buffer.from(`${text}Z`));
}

function extension(id: string, value: Buffer): Buffer {
  return der(tags.list, identifier(id), der(tags.octets, value));
}

/** The host as clients compare it: a DNS name or the bytes of an address. */
function alternative(host: string): Buffer {
  if (isIP(host) === 0) return der(tags.list, der(0x82, Buffer.from(host)));
  return der(tags.list, der(0x87, isIPv4(host) ? Buffer.from(host.split(".").map(Number)) : ipv6Bytes(host)));
}

function ipv6Bytes(host: string): Buffer {
  const canonical = new URL(`http://[${host}]/`).hostname.slice(1, -1);
  const [head = "", tail] = canonical.split("::");
  const groups = (text: string | undefined): number[] =>
    text === undefined || text === "" ? [] : text.split(":").map((group) => parseInt(group, 16));
  const [front, back] = [groups(head), groups(tail)];
  const all = [...front, ...Array<number>(8 - front.length - back.length).fill(0), ...back];
  return Buffer.concat(all.map((group) => Buffer.from([group >> 8, group & 0xff])));
}
