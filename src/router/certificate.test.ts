import { createHash, X509Certificate } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { certificateHash } from "../pgwire/certificate-hash.ts";
import { selfSigned } from "./self-signed.ts";

const from = new Date("2026-01-02T03:04:05Z");
const until = new Date("2036-01-02T03:04:05Z");

test.each([
  ["db.example.org", "DNS:db.example.org", (made: X509Certificate) => made.checkHost("db.example.org")],
  ["10.0.0.20", "IP Address:10.0.0.20", (made: X509Certificate) => made.checkIP("10.0.0.20")],
  ["fd00::20", "IP Address:FD00:0:0:0:0:0:0:20", (made: X509Certificate) => made.checkIP("fd00::20")],
  [`${"long.".repeat(20)}example`, `DNS:${"long.".repeat(20)}example`, () => "cut in its common name alone"],
])("a certificate for %s vouches for itself and is good for it", (host, alternative, check) => {
  const { cert, key } = selfSigned(host, from, until);
  const made = new X509Certificate(cert);
  expect(made.verify(made.publicKey)).toBe(true);
  expect(made.subjectAltName).toBe(alternative);
  expect(check(made)).toBeDefined();
  expect(new Date(made.validFrom)).toEqual(from);
  expect(new Date(made.validTo)).toEqual(until);
  expect(made.ca).toBe(false);
  expect(made.publicKey.asymmetricKeyDetails?.namedCurve).toBe("prime256v1");
  expect(key).toContain("BEGIN PRIVATE KEY");
  expect(new X509Certificate(selfSigned(host, from, until).cert).serialNumber).not.toBe(made.serialNumber);
});

test("the binding of a certificate is its hash by the hash of its signature", () => {
  const { raw } = new X509Certificate(selfSigned("db1", from, until).cert);
  expect(certificateHash(raw)).toEqual(createHash("sha256").update(raw).digest());
  // ecdsa-with-SHA384 in place of ecdsa-with-SHA256, wherever it stands.
  const other = Buffer.from(raw.toString("hex").replaceAll("2a8648ce3d040302", "2a8648ce3d040303"), "hex");
  expect(certificateHash(other)).toEqual(createHash("sha384").update(other).digest());
  const ed25519 = Buffer.from(raw.toString("hex").replaceAll("2a8648ce3d040302", "2a8648ce3d0403ff"), "hex");
  expect(certificateHash(ed25519)).toBeNull();
});

test("of what is no certificate there is no binding", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      expect(certificateHash(Buffer.from(bytes))).toBeNull();
    }),
  );
});
