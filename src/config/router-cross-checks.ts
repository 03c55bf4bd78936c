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
    ...(file.router === undefined && routerNameOf(file, host) !== host
      ? [value(["router"], `the host's name ${host} cannot be the router's: name one`)]
      : []),
  ];
}

function value(path: DocumentPath, message: string): Issue {
  return { kind: "value", path, message };
}

type ListenerFile = RouterFile["listeners"][string];

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
    issues.push(...checkTls(file, name, listener), ...unenforceable(file, name, listener));
  }
  return issues;
}

const missing = "required key is missing";

function checkTls({ tls }: RouterFile, name: string, listener: ListenerFile): Issue[] {
  const at = (key: string): DocumentPath => ["listeners", name, key];
  const own = listener.tls;
  if (listener.path === "kernel" && own !== undefined)
    return [value(at("tls"), "with path kernel TLS is between the client and PostgreSQL")];
  if (listener.path === "kernel" && tls.mode === "require")
    return [
      value(at("path"), "the kernel cannot tell TLS from other bytes, so tls.mode require cannot be kept"),
    ];
  if (listener.path !== "stream" || own === undefined) return [];
  const { cert_file, client_ca_file } = own;
  return cert_file === undefined && client_ca_file === undefined
    ? []
    : [value(at("tls"), "with path stream TLS is between the client and PostgreSQL: only mode can be set")];
}

/** Access rules that cannot be kept on a listener: not to be taken for a protection that is not there. */
function unenforceable(file: RouterFile, name: string, listener: ListenerFile): Issue[] {
  return file.access.flatMap((rule, index) => {
    const why = problemOf(rule, listener.path, (listener.tls ?? file.tls).mode, `listener ${name}`);
    return why === null ? [] : [value(["access", index], why)];
  });
}

/** Why a rule cannot be kept on a listener; null = it can. */
function problemOf(
  rule: RouterFile["access"][number],
  path: ListenerFile["path"],
  tls: RouterFile["tls"]["mode"],
  listener: string,
): string | null {
  const never = `can never match on ${listener}, which has no TLS`;
  if (path === "session")
    return tls === "disable" && (rule.tls === "required" || rule.method === "cert") ? never : null;
  // Whom PostgreSQL admits without a password because the router vouches for it, it admits to everybody here.
  if (rule.method === "trust" || rule.method === "cert")
    return `method ${rule.method} makes PostgreSQL admit the router without a password, and with it every client of ${listener} (path ${path}), where the router proves nobody: use path session there`;
  if (path === "kernel" && rule.tls === "required")
    return `${listener} (path kernel) cannot tell who uses TLS: use path session or stream there`;
  if (path === "stream" && tls === "disable") return rule.tls === "required" ? never : null;
  const names =
    rule.user.includes("all") && rule.database.includes("all") && rule.database.includes("replication");
  if (names) return null;
  const hidden = path === "kernel" ? "sees addresses alone" : "cannot see names within TLS";
  const way = path === "kernel" ? "" : ` or set listeners.${listener.slice(9)}.tls: { mode: disable }`;
  return `${listener} (path ${path}) ${hidden}: use path session there${way}, or let the rule say user: all, database: [all, replication]`;
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
