import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { Fault } from "../values/fault.ts";

/** Reads `connection.ca_file`. @throws Fault CONFIG_UNREADABLE, also for a file that holds no certificate */
export async function readAuthority(path: string): Promise<string> {
  try {
    const text = await readFile(path, "utf8");
    new X509Certificate(text);
    return text;
  } catch (thrown) {
    throw new Fault("CONFIG_UNREADABLE", `The authority of the servers' certificates cannot be read`, {
      detail: `${path}: ${thrown instanceof Error ? thrown.message : String(thrown)}`,
      hint: "connection.ca_file names a file with certificates in PEM form.",
      cause: thrown,
    });
  }
}

const wrongName = "ERR_TLS_CERT_ALTNAME_INVALID";
const wrongTime = new Set(["CERT_HAS_EXPIRED", "CERT_NOT_YET_VALID"]);
/** What Node.js says of a certificate no authority here vouches for. */
const wrongAuthority = new Set([
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "CERT_SIGNATURE_FAILURE",
  "CERT_UNTRUSTED",
  "CERT_REJECTED",
  "CERT_REVOKED",
  "INVALID_CA",
  "INVALID_PURPOSE",
]);

/**
 * A server's certificate that was not accepted, as a fault; null = the error is about something else.
 * @param where for people: `10.0.0.11:5432`
 * @param caFile null = the system's authorities
 */
export function certificateFault(where: string, error: unknown, caFile: string | null): Fault | null {
  if (!(error instanceof Error) || !("code" in error) || typeof error.code !== "string") return null;
  const hint =
    error.code === wrongName
      ? "The host must be called by a name or address that its certificate has (subjectAltName)."
      : wrongTime.has(error.code)
        ? "Give the server a certificate that is valid now, and see that the clocks of both hosts are right."
        : wrongAuthority.has(error.code)
          ? `connection.ca_file must name the authority that signed it; ${caFile ?? "the system's authorities"} did not.`
          : null;
  if (hint === null) return null;
  const detail = `${where}: ${error.message}`;
  return new Fault("POSTGRES_CERTIFICATE", "PostgreSQL's certificate is not accepted", {
    detail,
    hint,
    cause: error,
  });
}
