import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Paths of PEM files. */
export interface CertificateFiles {
  readonly caFile: string;
  readonly certFile: string;
  readonly keyFile: string;
}

/**
 * Makes (with openssl) a certificate authority in `dir` and one certificate per name, for server and client use, valid
 * for localhost and 127.0.0.1, its CN the name.
 */
export async function makeCertificates<Name extends string>(
  dir: string,
  names: readonly Name[],
): Promise<Record<Name, CertificateFiles>> {
  const caFile = join(dir, "ca.crt");
  const caKey = join(dir, "ca.key");
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  await run("openssl", [
    "req",
    "-x509",
    ...curve,
    "-keyout",
    caKey,
    "-out",
    caFile,
    "-days",
    "2",
    "-subj",
    "/CN=test authority",
  ]);
  const extensions = join(dir, "extensions.cnf");
  await writeFile(
    extensions,
    "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n",
  );
  const made = {} as Record<Name, CertificateFiles>;
  for (const name of names) {
    const keyFile = join(dir, `${name}.key`);
    const requestFile = join(dir, `${name}.csr`);
    const certFile = join(dir, `${name}.crt`);
    await run("openssl", ["req", ...curve, "-keyout", keyFile, "-out", requestFile, "-subj", `/CN=${name}`]);
    const authority = ["-CA", caFile, "-CAkey", caKey, "-CAcreateserial", "-extfile", extensions];
    await run("openssl", ["x509", "-req", "-in", requestFile, ...authority, "-out", certFile, "-days", "2"]);
    made[name] = { caFile, certFile, keyFile };
  }
  return made;
}
