import type { Issue } from "./issues.ts";
import type { DocumentPath } from "./problem.ts";
import { parseNetwork } from "./router-fields.ts";
import type { RouterFile } from "./router-file-schema.ts";
import { portOf, routerNameOf, targetOf } from "./router-settings.ts";

/** Mistakes of a router file that only show when several keys are looked at together; `host` = the name of this host. */
export function crossCheckRouter(file: RouterFile, host: string): Issue[] {
  return [
    ...checkListeners(file),
    ...checkPorts(file),
    ...checkAccess(file),
    ...checkAddresses(file),
    ...(file.open_after_archive === null
      ? []
      : [
          value(["open_after_archive"], "needs the WAL archive, which this version does not watch: only off"),
        ]),
    ...(file.router === undefined && routerNameOf(file, host) !== host
      ? [value(["router"], `the host's name ${host} cannot be the router's: name one`)]
      : []),
  ];
}

function value(path: DocumentPath, message: string): Issue {
  return { kind: "value", path, message };
}

function checkListeners(file: RouterFile): Issue[] {
  const issues: Issue[] = [];
  for (const [name, listener] of Object.entries(file.listeners)) {
    const at = (...rest: string[]): DocumentPath => ["listeners", name, ...rest];
    const target = targetOf(name, listener);
    if (target === null) issues.push({ kind: "missing", path: at("target"), message: missing });
    if (portOf(name, listener) === null) issues.push({ kind: "missing", path: at("port"), message: missing });
    if (listener.path === "kernel" && target !== null && target !== "primary")
      issues.push(value(at("path"), `the kernel knows one server only: path kernel needs target primary`));
    if (listener.lag_limit !== undefined && target === "primary")
      issues.push(value(at("lag_limit"), "the primary has no lag: it is for target standby and any"));
    if (listener.proxy_protocol && listener.path === "kernel")
      issues.push(
        value(at("proxy_protocol"), "the kernel passes bytes as they come: use path session or stream"),
      );
    if (listener.proxy_protocol && listener.proxy_from.length === 0)
      issues.push(value(at("proxy_protocol"), "needs proxy_from: anybody could say to come from anywhere"));
    if (listener.tls !== undefined && listener.path !== "session")
      issues.push(value(at("tls"), `with path ${listener.path} TLS is between the client and PostgreSQL`));
    if (listener.path === "session" && (listener.tls ?? file.tls).mode === "disable")
      issues.push(...certificateRules(file, name));
  }
  return issues;
}

const missing = "required key is missing";

function certificateRules(file: RouterFile, listener: string): Issue[] {
  return file.access.flatMap((rule, index) =>
    rule.tls === "required" || rule.method === "cert"
      ? [value(["access", index], `can never match on listener ${listener}, which has no TLS`)]
      : [],
  );
}

/** Ports that two of them would take: on the same address, or one of them on all. */
function checkPorts(file: RouterFile): Issue[] {
  const taken = [
    ...Object.entries(file.listeners).map(([name, listener]) => ({
      what: `listeners.${name}`,
      path: ["listeners", name, "port"],
      listen: listener.listen,
      port: portOf(name, listener),
    })),
    { what: "admin", path: ["admin", "port"], listen: file.admin.listen, port: file.admin.port },
    { what: "metrics", path: ["metrics", "port"], listen: file.metrics.listen, port: file.metrics.port },
  ];
  return taken.flatMap((one, index) => {
    const other = taken
      .slice(0, index)
      .find((before) => before.port === one.port && meet(before.listen, one.listen));
    return other === undefined || one.port === null
      ? []
      : [value(one.path, `port ${one.port} is taken by ${other.what} already`)];
  });
}

function meet(a: string, b: string): boolean {
  const everywhere = (address: string): boolean => ["*", "0.0.0.0", "::"].includes(address);
  return a === b || everywhere(a) || everywhere(b);
}

function checkAccess(file: RouterFile): Issue[] {
  return file.access.flatMap((rule, index) => {
    const at = (key: string): DocumentPath => ["access", index, key];
    if (rule.map !== undefined && rule.method !== "cert")
      return [value(at("map"), "maps certificates: it needs method cert")];
    if (rule.method === "cert" && file.tls.client_ca_file === undefined)
      return [value(at("method"), "needs tls.client_ca_file, which says whose certificates count")];
    return [];
  });
}

function checkAddresses(file: RouterFile): Issue[] {
  const seen = new Set<string>();
  return file.vip.flatMap((vip, index) => {
    const { address = "", prefixLength = 0 } = parseNetwork(vip.address) ?? {};
    const issues: Issue[] = [];
    const at = (key: string): DocumentPath => ["vip", index, key];
    if (seen.has(address)) issues.push(value(at("address"), "is named twice"));
    seen.add(address);
    if (address === file.address)
      issues.push(value(at("address"), "is this host's own address, which can never move"));
    if (prefixLength === 0) issues.push(value(at("address"), "a prefix length of 0 holds every address"));
    if (vip.bind === "router" && vip.node !== undefined)
      issues.push(value(at("node"), "is for bind leader alone"));
    return issues;
  });
}
