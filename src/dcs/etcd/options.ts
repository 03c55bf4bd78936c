import { readFileSync } from "node:fs";
import { createSecureContext, type SecureContextOptions } from "node:tls";
import { Fault } from "../../values/fault.ts";

/** Paths of PEM files. Without `caFile` the system's authorities count. */
export interface EtcdTlsFiles {
  readonly caFile?: string | undefined;
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
}

/**
 * Complete URLs of the members. `host:port` is taken too and gets the scheme that fits.
 * @throws Fault CONFIG_INVALID
 */
export function endpointUrls(endpoints: readonly string[], tls: boolean): string[] {
  if (endpoints.length === 0) throw new Fault("CONFIG_INVALID", "No etcd endpoint is given");
  return endpoints.map((endpoint) => {
    const url = URL.parse(endpoint.includes("://") ? endpoint : `${tls ? "https" : "http"}://${endpoint}`);
    const plain = url !== null && url.username === "" && url.pathname === "/" && url.search === "";
    if (!plain || (url.protocol !== "http:" && url.protocol !== "https:"))
      throw new Fault("CONFIG_INVALID", "An etcd endpoint is not a URL of a host and a port", {
        detail: endpoint.replace(/\/\/.*@/, "//***@"),
        hint: "Write it as http://10.0.0.11:2379 or https://10.0.0.11:2379",
      });
    return url.origin;
  });
}

/**
 * Reads the files now and again at each later call; when they cannot be used then (in the midst of being renewed), the
 * last good ones are.
 * @throws Fault CONFIG_UNREADABLE when they cannot be used at the first time
 */
export function tlsReader(files: EtcdTlsFiles | undefined): () => SecureContextOptions | undefined {
  if (files === undefined) return () => undefined;
  let good = loadTls(files);
  return () => {
    try {
      good = loadTls(files);
    } catch {
      return good;
    }
    return good;
  };
}

function loadTls(files: EtcdTlsFiles): SecureContextOptions {
  const read = (path: string): string => readFileSync(path, "utf8");
  try {
    const options = {
      ...(files.caFile === undefined ? {} : { ca: read(files.caFile) }),
      ...(files.certFile === undefined ? {} : { cert: read(files.certFile) }),
      ...(files.keyFile === undefined ? {} : { key: read(files.keyFile) }),
    };
    createSecureContext(options);
    return options;
  } catch (thrown) {
    throw new Fault("CONFIG_UNREADABLE", "The TLS files for etcd cannot be used", {
      detail: thrown instanceof Error ? thrown.message : String(thrown),
      hint: "Check `dcs.tls`: PEM files, readable for the agent, key and certificate of a pair",
      cause: thrown,
    });
  }
}
