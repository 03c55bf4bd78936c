import { resolveDcs, type CommandConfig } from "./node-config.ts";
import type {
  ClientTlsSettings,
  ListenerSettings,
  ListenerTarget,
  RouterSettings,
  VipSettings,
} from "./router-config.ts";
import { parseNetwork } from "./router-fields.ts";
import type { RouterFile } from "./router-file-schema.ts";

type ListenerFile = RouterFile["listeners"][string];

/** The ports of the two listeners everybody has. */
const usualPorts: Readonly<Record<string, number>> = { primary: 5000, standby: 5001 };

/** The port as written or usual; null = it has to be written. */
export function portOf(name: string, file: ListenerFile): number | null {
  return file.port ?? (Object.hasOwn(usualPorts, name) ? (usualPorts[name] ?? null) : null);
}

/** The target as written or named; null = it has to be written. */
export function targetOf(name: string, file: ListenerFile): ListenerTarget | null {
  if (file.target !== undefined) return file.target;
  return name === "primary" || name === "standby" || name === "any" ? name : null;
}

/** The name of a host as the name of its router: what no name may hold left out. */
export function routerNameOf(file: Pick<RouterFile, "router">, host: string): string {
  return (
    file.router ??
    (host
      .replaceAll(/[^A-Za-z0-9_.-]/g, "-")
      .replace(/^[^A-Za-z0-9]+/, "")
      .slice(0, 63) ||
      "router")
  );
}

/** Derives everything from a valid router file that passed the cross checks; `host` = the name of this host. */
export function resolveRouterSettings(file: RouterFile, host: string): RouterSettings {
  const router = routerNameOf(file, host);
  const { limits, timeouts } = file;
  const tls = resolveTls(file.tls);
  return {
    cluster: file.cluster,
    namespace: file.namespace,
    router,
    address: file.address,
    location: file.location ?? null,
    dcs: resolveDcs(file.dcs),
    stateDir: file.state_dir ?? `/var/lib/pgherd/${file.cluster}-${router}`,
    listeners: Object.entries(file.listeners).map(([name, listener]) =>
      resolveListener(name, listener, tls, timeouts.idle),
    ),
    tls,
    backendTls: { mode: file.backend_tls.mode, caFile: file.backend_tls.ca_file ?? null },
    access: file.access.map((rule) => ({
      databases: rule.database,
      users: rule.user,
      addresses: rule.address,
      tls: rule.tls,
      method: rule.method,
      map: rule.map === undefined ? null : new Map(Object.entries(rule.map)),
    })),
    limits: {
      clients: limits.clients,
      perUser: limits.per_user ?? null,
      perDatabase: limits.per_database ?? null,
      perNode: limits.per_node ?? null,
      queue: limits.queue,
      queueTimeoutMs: limits.queue_timeout,
      starting: limits.starting,
    },
    timeouts: {
      connectMs: timeouts.connect,
      startupMs: timeouts.startup,
      holdMs: timeouts.hold,
      idleMs: timeouts.idle,
      stopMs: timeouts.stop,
      upgradeMs: timeouts.upgrade,
    },
    openAfterArchiveMs: file.open_after_archive,
    admin: file.admin,
    metrics: file.metrics,
    vips: file.vip.map(resolveVip),
    agents: { caFile: file.agents.ca_file ?? null },
    log: file.log,
  };
}

function resolveTls(file: RouterFile["tls"]): ClientTlsSettings {
  return {
    mode: file.mode,
    certFile: file.cert_file ?? null,
    keyFile: file.key_file ?? null,
    clientCaFile: file.client_ca_file ?? null,
  };
}

function resolveListener(
  name: string,
  file: ListenerFile,
  tls: ClientTlsSettings,
  idleMs: number | null,
): ListenerSettings {
  return {
    name,
    target: targetOf(name, file) ?? "primary",
    path: file.path,
    listen: file.listen,
    port: portOf(name, file) ?? 0,
    clients: file.clients ?? null,
    lagLimitBytes: file.lag_limit ?? null,
    fallback: file.fallback,
    sameLocationFirst: file.same_location_first,
    proxyProtocol: file.proxy_protocol,
    proxyFrom: file.proxy_from,
    tls: file.tls === undefined ? tls : resolveTls(file.tls),
    idleMs: file.idle_timeout === undefined ? idleMs : file.idle_timeout,
    kernel: file.kernel,
  };
}

type CommandFile = { readonly command: readonly string[]; readonly timeout: number };

function resolveCommand({ command, timeout }: CommandFile): CommandConfig {
  return { command, timeoutMs: timeout };
}

function resolveVip(file: RouterFile["vip"][number]): VipSettings {
  const { address, prefixLength } = parseNetwork(file.address) ?? { address: file.address, prefixLength: 32 };
  const optional = (command: CommandFile | undefined): CommandConfig | null =>
    command === undefined ? null : resolveCommand(command);
  const { commands, notify } = file;
  return {
    name: file.name ?? address.replaceAll(":", "-"),
    address,
    prefixLength,
    interface: file.interface,
    bind: file.bind,
    node: file.node ?? null,
    priority: file.priority,
    preempt: file.preempt,
    lockMs: file.lock,
    lifetimeMs: file.lifetime,
    duplicateCheck: file.duplicate_check,
    commands:
      commands === undefined
        ? null
        : {
            acquire: resolveCommand(commands.acquire),
            release: resolveCommand(commands.release),
            verify: optional(commands.verify),
          },
    notify: { gained: optional(notify.gained), lost: optional(notify.lost), fault: optional(notify.fault) },
  };
}
