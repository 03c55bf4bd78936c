import type { Reach } from "../../agent/service.ts";
import type { NodePicture } from "../../api/wire.ts";
import type { ClusterStatus } from "../../cluster/status.ts";
import { bytesText, spanText } from "../render/quantity.ts";
import { failure, ok, warning, type Finding } from "./finding.ts";

/** What the doctor gathered from the agents. */
export interface ClusterFacts {
  readonly status: ClusterStatus;
  readonly pictures: ReadonlyMap<string, NodePicture>;
  readonly silent: ReadonlyMap<string, string>;
  readonly reach: readonly Reach[];
  /** Milliseconds the node's clock is ahead of this host's; null = unknown. */
  readonly clockOffsets: ReadonlyMap<string, number | null>;
  /** Listeners of routers that could not be connected to from here, such as `r1 primary 10.0.0.20:5000`, and why. */
  readonly closedListeners: ReadonlyMap<string, string>;
  /** The cluster settings in force. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** Whether a write would be accepted: null = no token was found. */
  readonly writes: { readonly accepted: boolean; readonly problem: string } | null;
}

/** The diagnosis of the cluster. Pure. */
export function clusterFindings(facts: ClusterFacts): Finding[] {
  return [
    ...agentFindings(facts),
    ...versionFindings(facts),
    ...clockFindings(facts),
    ...connectivityFindings(facts),
    ...authenticationFindings(facts),
    ...budgetFindings(facts),
    ...diskFindings(facts),
    ...routerFindings(facts),
    ...healthFindings(facts),
  ];
}

function agentFindings({ status, pictures, silent }: ClusterFacts): Finding[] {
  if (status.nodes.length === 0)
    return [warning("agents", "no node has registered yet", "Start the agents, and look at their logs.")];
  return status.nodes.map((node) => {
    const picture = pictures.get(node.name);
    if (picture === undefined)
      return failure(
        "agents",
        `${node.name} does not answer at ${node.api_url}: ${silent.get(node.name) ?? "no reason known"}`,
        `See that its agent runs, and that nothing blocks port ${portOf(node.api_url)}.`,
      );
    if (picture.loopAgeMs > picture.ttlMs)
      return failure(
        "agents",
        `${node.name}: its loop stands still for ${spanText(picture.loopAgeMs)}`,
        "Look at its log.",
      );
    if (!picture.dcsReachable)
      return failure(
        "agents",
        `${node.name} does not reach the DCS`,
        "Look at the network between it and the DCS.",
      );
    return ok("agents", `${node.name} answers and reaches the DCS`);
  });
}

function portOf(url: string): string {
  const { port, protocol } = new URL(url);
  return port !== "" ? port : protocol === "https:" ? "443" : "80";
}

function versionFindings({ status }: ClusterFacts): Finding[] {
  const agents = distinct(status.nodes.map((node) => node.agent_version));
  const servers = distinct(status.nodes.flatMap((node) => node.server_version ?? []));
  const majors = distinct(servers.map((version) => Math.floor(version / 10_000)));
  const findings: Finding[] = [];
  if (agents.length > 1)
    findings.push(
      warning(
        "versions",
        `the agents have different versions: ${agents.join(", ")}`,
        "Finish the upgrade of pgherd.",
      ),
    );
  if (majors.length > 1)
    findings.push(
      failure(
        "versions",
        `PostgreSQL has different major versions: ${majors.join(", ")}`,
        "Use one; a physical standby cannot follow another.",
      ),
    );
  else if (servers.length > 1) {
    const texts = servers.map((version) => `${Math.floor(version / 10_000)}.${version % 10_000}`);
    findings.push(
      warning(
        "versions",
        `PostgreSQL has different minor versions: ${texts.join(", ")}`,
        "Upgrade the standbys, then switch over.",
      ),
    );
  }
  return findings.length > 0 || servers.length === 0 ? findings : [ok("versions", "the same on all nodes")];
}

function distinct<T>(values: readonly T[]): T[] {
  return [...new Set(values)].sort();
}

/** Clocks decide nothing in pgherd; logs, schedules and certificates need them all the same. */
function clockFindings({ clockOffsets }: ClusterFacts): Finding[] {
  return [...clockOffsets].flatMap(([node, offset]) => {
    if (offset === null) return [];
    const far = Math.abs(offset);
    const where = offset > 0 ? "ahead of" : "behind";
    if (far < 2000) return [ok("clocks", `${node} agrees with this host`)];
    const text = `${node} is ${spanText(far)} ${where} this host`;
    const next = "Run a time service (chrony, systemd-timesyncd) on every host.";
    return [far < 30_000 ? warning("clocks", text, next) : failure("clocks", text, next)];
  });
}

function connectivityFindings({ reach }: ClusterFacts): Finding[] {
  if (reach.length === 0) return [];
  const broken = reach.filter((item) => !item.ok);
  if (broken.length === 0) return [ok("network", `all ${reach.length} ways between the nodes work`)];
  return broken.map((item) =>
    failure(
      "network",
      `${item.from} does not reach ${item.channel} of ${item.to}: ${item.problem ?? "no answer"}`,
      "Look at addresses, listen settings and packet filters there.",
    ),
  );
}

function authenticationFindings({ writes }: ClusterFacts): Finding[] {
  if (writes === null)
    return [
      warning(
        "access",
        "no token was found: changes will be refused",
        "Give --config of a node of this host, --token-file, or PGHERD_TOKEN.",
      ),
    ];
  if (writes.accepted) return [ok("access", "the API accepts changes with this token")];
  return [failure("access", `the API refuses changes: ${writes.problem}`, "Use the token of this cluster.")];
}

/** What pgherd sets when nobody sets anything. */
const defaultBudget = 10;

/** One sender and one slot for each standby, and two senders for a copy (data and WAL). */
function budgetFindings({ settings, status, pictures }: ClusterFacts): Finding[] {
  const leader = pictures.get(status.leader ?? "");
  const standbys = Math.max(0, status.nodes.length - 1);
  const used = {
    max_wal_senders: leader?.sql?.replication.length ?? 0,
    max_replication_slots: leader?.sql?.slots.length ?? 0,
  };
  const needed = { max_wal_senders: standbys + 2, max_replication_slots: standbys + 1 };
  return (["max_wal_senders", "max_replication_slots"] as const).map((name) => {
    const most = budgetOf(settings, name);
    const numbers = `${name} is ${most}, ${used[name]} in use, ${needed[name]} may be needed`;
    if (most >= Math.max(needed[name], used[name] + 1)) return ok("budget", numbers);
    const next = `Raise it and restart: pgherd config set postgresql.parameters.${name}=${needed[name] + 5}`;
    return most < standbys ? failure("budget", numbers, next) : warning("budget", numbers, next);
  });
}

function budgetOf(settings: Readonly<Record<string, unknown>>, name: string): number {
  const { postgresql } = settings as { postgresql?: { parameters?: Readonly<Record<string, unknown>> } };
  const value = Number(postgresql?.parameters?.[name] ?? defaultBudget);
  return Number.isInteger(value) ? value : defaultBudget;
}

/** A disk that is full or hangs is among what the status calls out; here is what it does not say. */
function diskFindings({ pictures, settings }: ClusterFacts): Finding[] {
  const wanted = settings["disk_reserve"];
  const none = wanted === 0 || (typeof wanted === "string" && /^0\D*$/.test(wanted));
  return [...pictures].flatMap(([node, { disk }]) => {
    if (disk.kind !== "ok" || disk.freeBytes === null) return [];
    const room = `${node} has ${bytesText(disk.freeBytes)} free`;
    if (disk.reserve === "none" && !none)
      return [
        warning(
          "disk",
          `${room} and holds no reserve for a full disk`,
          "Make room: the reserve (disk_reserve) is made when three times its size is free.",
        ),
      ];
    return [ok("disk", `${room}; a flushed write takes ${Math.round(disk.probeMs ?? 0)} ms`)];
  });
}

function routerFindings({ status, closedListeners }: ClusterFacts): Finding[] {
  const silent = status.routers.filter((router) => router.state === "unknown");
  const closed = [...closedListeners].map(([listener, why]) =>
    failure(
      "routers",
      `${listener} takes no connections from here: ${why}`,
      "Look at the router's log, its `listen`, and packet filters.",
    ),
  );
  const away = silent.map((router) =>
    failure(
      "routers",
      `${router.name} on ${router.host} has not been heard for a while`,
      "See that it runs (systemctl status pgherd-router) and reaches the DCS; one that is gone for good is forgotten after a day.",
    ),
  );
  const well = status.routers
    .filter((router) => router.state !== "unknown")
    .filter(
      (router) => ![...closedListeners.keys()].some((listener) => listener.startsWith(`${router.name} `)),
    )
    .map((router) => ok("routers", `${router.name} is heard and listens`));
  return [...well, ...away, ...closed];
}

function healthFindings({ status }: ClusterFacts): Finding[] {
  const findings = status.attention.map((text) =>
    warning("cluster", text, "See pgherd status and pgherd events."),
  );
  if (status.nodes.length === 1)
    findings.push(warning("cluster", "there is one node: nothing can take over", "Add a second node."));
  if (status.paused) findings.push(warning("cluster", "it is paused", "Let it act again: pgherd resume"));
  if (findings.length > 0) return findings;
  const exposed = status.durability.exposed_bytes;
  return [ok("cluster", `healthy${exposed === null ? "" : `, ${bytesText(exposed)} at risk`}`)];
}
