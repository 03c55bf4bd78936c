import { expect, test } from "vitest";
import { formatProblems } from "./problem.ts";
import { checkRouterFile } from "./router-file.ts";

const minimal = `cluster: shop
router: r1
address: 10.0.0.20
dcs: { etcd: [10.0.0.11:2379, 10.0.0.12:2379] }
`;

function settingsOf(more: string, environment: Record<string, string> = {}) {
  const { settings, problems } = checkRouterFile(minimal + more, environment);
  expect(formatProblems(problems)).toEqual([]);
  return settings!;
}

const problemsIn = (more: string, environment: Record<string, string> = {}): string[] =>
  formatProblems(checkRouterFile(minimal + more, environment, "r1.yml").problems);

test("four lines suffice; the rest derives from them", () => {
  expect(settingsOf("")).toMatchObject({
    cluster: "shop",
    namespace: "service",
    router: "r1",
    stateDir: "/var/lib/pgherd/shop-r1",
    listeners: [
      { name: "primary", target: "primary", port: 5000, path: "session", listen: "*", clients: null },
      { name: "standby", target: "standby", port: 5001, path: "session", fallback: "primary" },
    ],
    tls: { mode: "allow", certFile: null },
    access: [],
    limits: { clients: 2000, perUser: null, queueTimeoutMs: 10_000 },
    timeouts: { connectMs: 5000, startupMs: 10_000, holdMs: 30_000, idleMs: null },
    openAfterArchiveMs: undefined,
    admin: { listen: "127.0.0.1", port: 6432, users: [] },
    metrics: { listen: "127.0.0.1", port: 9187 },
    vips: [],
  });
});

test("a router without a name has that of its host", () => {
  const text = minimal.replace("router: r1\n", "");
  expect(checkRouterFile(text, {}, "f", "web-7.example.com").settings?.router).toBe("web-7.example.com");
  const { settings, problems } = checkRouterFile(text, {}, "f", "_host");
  expect(settings).toBeNull();
  expect(problems[0]?.message).toContain("name one");
});

test("listeners inherit TLS and idle timeout, off turns one off", () => {
  const [primary, standby] = settingsOf(
    "tls: { mode: require }\ntimeouts: { idle: 1h }\nlisteners: { primary: { idle_timeout: off }, standby: {} }\n",
  ).listeners;
  expect([primary?.tls.mode, primary?.idleMs]).toEqual(["require", null]);
  expect([standby?.tls.mode, standby?.idleMs]).toEqual(["require", 3_600_000]);
});

test("rules take one name or several, and say all where nothing is said", () => {
  const [first, second] = settingsOf(
    "access:\n  - { database: [a, b], user: app, address: 10.0.0.0/8 }\n  - { method: reject }\n",
  ).access;
  expect(first).toMatchObject({ databases: ["a", "b"], users: ["app"], addresses: ["10.0.0.0/8"] });
  expect(second).toMatchObject({ databases: ["all"], users: ["all"], addresses: ["all"], method: "reject" });
});

test("a virtual address is taken apart", () => {
  const [v4, v6] = settingsOf(
    'vip:\n  - { address: 10.0.0.100/24, interface: eth0 }\n  - { address: "fd00::100", interface: eth0, name: six }\n',
  ).vips;
  expect(v4).toMatchObject({ name: "10.0.0.100", address: "10.0.0.100", prefixLength: 24, bind: "router" });
  expect(v6).toMatchObject({ name: "six", address: "fd00::100", prefixLength: 128 });
});

test("a variable of the environment wins", () => {
  expect(settingsOf("", { PGHERD_ROUTER: "r9", PGHERD_LIMITS_CLIENTS: "7" })).toMatchObject({
    router: "r9",
    limits: { clients: 7 },
  });
});

test("rules are taken that the listeners can keep: by name where the router declines TLS, by address elsewhere", () => {
  settingsOf(
    "listeners: { primary: { path: stream, tls: { mode: disable } } }\naccess: [{ user: app, database: shop }]\n",
  );
  const byAddress = "access: [{ address: 10.0.0.0/8, database: [all, replication] }]\n";
  settingsOf(`listeners: { primary: { path: stream } }\n${byAddress}`);
  settingsOf(`listeners: { primary: { path: kernel } }\n${byAddress}`);
});

test.each([
  [
    "a port that two listeners would take",
    "listeners: { primary: {}, standby: { port: 5000 } }",
    /:5:\d+ +listeners\.standby\.port +port 5000 is taken by listeners\.primary already/,
  ],
  [
    "a port of the console's",
    "listeners: { primary: { port: 6432 } }",
    /admin\.port +port 6432 is taken by listeners\.primary already/,
  ],
  [
    "the kernel and standbys",
    "listeners: { standby: { path: kernel } }",
    /listeners\.standby\.path +the kernel knows one server only/,
  ],
  ["PROXY headers from anybody", "listeners: { primary: { proxy_protocol: true } }", /needs proxy_from/],
  [
    "a listener of another name without a port",
    "listeners: { batch: { target: primary } }",
    /listeners\.batch\.port +required key is missing/,
  ],
  [
    "a listener of another name without a target",
    "listeners: { batch: { port: 7000 } }",
    /listeners\.batch\.target +required key is missing/,
  ],
  ["no listener", "listeners: {}", /needs at least one listener/],
  [
    "an unknown key below a listener",
    "listeners: { primary: { lagg_limit: 1MB } }",
    /listeners\.primary\.lagg_limit +unknown key; did you mean listeners\.primary\.lag_limit\?/,
  ],
  ["an unknown key", "listener: {}", /listener +unknown key; did you mean listeners\?/],
  [
    "certificates without an authority",
    "access: [{ method: cert }]",
    /access\[0\]\.method +needs tls\.client_ca_file/,
  ],
  ["a map without certificates", "access: [{ map: { a: b } }]", /needs method cert/],
  ["a network that is none", "access: [{ address: 10.0.0.0/33 }]", /expected a network/],
  [
    "a rule that no listener can match",
    "tls: { mode: disable }\naccess: [{ tls: required }]",
    /can never match/,
  ],
  [
    "a rule by name where TLS is passed through",
    "listeners: { primary: { path: stream } }\naccess:\n  - { address: 10.0.0.0/8, database: [all, replication] }\n  - { user: app, database: [all, replication] }",
    /:8:\d+ +access\[1\] +listener primary \(path stream\) cannot see names within TLS: use path session there or set listeners\.primary\.tls: \{ mode: disable \}, or let the rule say/,
  ],
  [
    "a rule that leaves replication to chance where it cannot be seen",
    "listeners: { primary: { path: kernel } }\naccess: [{ address: 10.0.0.0/8 }]",
    /access\[0\] +listener primary \(path kernel\) sees addresses alone: .* database: \[all, replication\]/,
  ],
  [
    "trust beside a path on which the router proves nobody",
    "listeners: { primary: { path: stream, tls: { mode: disable } } }\naccess: [{ method: trust }]",
    /method trust makes PostgreSQL admit the router without a password, and with it every client of listener primary/,
  ],
  [
    "a rule about TLS in the kernel",
    "listeners: { primary: { path: kernel } }\naccess: [{ database: [all, replication], tls: required }]",
    /cannot tell who uses TLS/,
  ],
  [
    "TLS that must be, in the kernel",
    "tls: { mode: require }\nlisteners: { primary: { path: kernel } }",
    /listeners\.primary\.path +the kernel cannot tell TLS/,
  ],
  [
    "a certificate of the router where TLS passes it by",
    "listeners: { primary: { path: stream, tls: { cert_file: /a, key_file: /b } } }",
    /only mode can be set/,
  ],
  [
    "an address that is the host's own",
    "vip: [{ address: 10.0.0.20/24, interface: eth0 }]",
    /this host's own address/,
  ],
  [
    "half a second of life",
    "vip: [{ address: 10.0.0.1/24, interface: eth0, lifetime: 1500ms }]",
    /whole seconds/,
  ],
  ["a wrong duration", "timeouts: { idle: never }", /expected a duration .* or off/],
  ["one out of bounds", "timeouts: { idle: 10ms }", /10ms is below the minimum 1s/],
])("refuses %s", (_, text, problem) => {
  expect(problemsIn(`${text}\n`).join("\n")).toMatch(problem);
});
