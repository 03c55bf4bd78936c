import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import { stringify } from "yaml";
import { checkNodeFile, loadNodeConfig } from "./node-file.ts";
import { nodeFileJsonSchema } from "./json-schema.ts";
import { schemaKeys } from "./keys.ts";
import { formatProblems } from "./problem.ts";

const minimal = `cluster: shop
node: db1
address: 10.0.0.11
data_dir: /var/lib/postgresql/15/main
dcs: { etcd: [10.0.0.11:2379, 10.0.0.12:2379] }
`;
const problemsIn = (more: string, environment: Record<string, string> = {}): string[] =>
  formatProblems(checkNodeFile(minimal + more, environment, "db1.yml").problems);

function configOf(more: string, environment: Record<string, string> = {}) {
  const { config, problems } = checkNodeFile(minimal + more, environment);
  expect(problems).toEqual([]);
  return config!;
}

test("five lines suffice; the rest derives from them", () => {
  expect(configOf("")).toMatchObject({
    cluster: "shop",
    namespace: "service",
    node: "db1",
    dataDir: "/var/lib/postgresql/15/main",
    stateDir: "/var/lib/postgresql/15/main.pgherd",
    binDir: null,
    location: null,
    tags: { nofailover: false, failoverPriority: 1, replicatefrom: null, free: {} },
    dcs: { kind: "etcd", endpoints: ["http://10.0.0.11:2379", "http://10.0.0.12:2379"], tls: null },
    postgresql: {
      port: 5432,
      listen: "*",
      configDir: "/var/lib/postgresql/15/main",
      socketDir: "/var/lib/postgresql/15/main.pgherd/run",
      startTimeoutMs: 60_000,
      stopTimeoutMs: 30_000,
      recoveryMinApplyDelayMs: null,
    },
    api: {
      url: "http://10.0.0.11:8008",
      tokenFile: "/var/lib/postgresql/15/main.pgherd/secrets.json",
      tls: null,
      basic: null,
    },
    hooks: [],
    fenceCommand: null,
    watchdog: { mode: "off", device: "/dev/watchdog" },
    bootstrap: { settings: {}, initdbOptions: [], dataChecksums: true },
  });
});

test("a misspelt key is shown with its place and the key that was meant", () => {
  expect(problemsIn("postgresql:\n  data_dri: /x\n")).toEqual([
    "db1.yml:7:3  postgresql.data_dri  unknown key; did you mean data_dir?",
  ]);
});

test("all mistakes of a file come at once, in its order, in columns", () => {
  const more = "postgresql: { prot: 1, port: 99999 }\nlog:\n  level: loud\nlocation: [a]\n";
  expect(problemsIn(more)).toEqual([
    "db1.yml:6:15  postgresql.prot  unknown key; did you mean postgresql.port?",
    "db1.yml:6:30  postgresql.port  99999 is above the maximum 65535",
    'db1.yml:8:10  log.level        expected trace, debug, info, warn or error, found "loud"',
    "db1.yml:9:11  location         expected a text, found a list",
  ]);
});

test("a misspelt required key is one mistake, not two", () => {
  const { problems } = checkNodeFile(minimal.replace("address", "adress"), {}, "db1.yml");
  expect(problems).toMatchObject([{ path: "adress", line: 3, hint: "did you mean address?" }]);
});

test.each([
  ["wrong type", "node_x: 1", "unknown key"],
  ["a number where a name is wanted", "location: 7", 'found 7 (write "7" in quotes)'],
  ["yes where true is wanted", "tags: { nofailover: yes }", 'expected true or false, found "yes"'],
  ["nothing where a value is wanted", "location:", "expected a text, found nothing"],
  ["a duration below its bound", "postgresql: { stop_timeout: 10ms }", "10ms is below the minimum 1s"],
  ["a duration with an unknown unit", "postgresql: { stop_timeout: 3m }", "expected a duration such as 5s"],
  ["a relative path", "state_dir: state", "expected an absolute path"],
  ["an owned parameter", "postgresql: { parameters: { port: 1 } }", "cannot be set here: port comes from"],
  ["an option that is pgherd's", "bootstrap: { initdb: [--pgdata=/x] }", "--pgdata cannot be set here"],
  ["a wrong first setting", "bootstrap: { settings: { ttl: 1 } }", "1s is below the minimum 2s"],
  [
    "two names of a first setting",
    "bootstrap: { settings: { maximum_lag_on_failover: 1, max_lag_on_failover: 2 } }",
    "different value",
  ],
  ["a nearly known tag", "tags: { nofailver: true }", "did you mean tags.nofailover?"],
  ["a node that follows itself", "tags: { replicatefrom: db1 }", "cannot stream from itself"],
  ["an event that does not exist", "hooks: [{ events: [promotd], command: [/x] }]", "did you mean promoted?"],
  ["a command as one text", "hooks: [{ command: notify me }]", "expected a list: the program"],
  ["a relative program", "fence_command: { command: [./x] }", "must be an absolute path"],
  ["state inside the data", "state_dir: /var/lib/postgresql/15/main/x", "lies in data_dir"],
  ["a socket path too long", `postgresql: { socket_dir: /${"x".repeat(90)} }`, "bytes, more than 100"],
  ["one port for two", "api: { port: 5432 }", "is the same as postgresql.port"],
  ["a user without password", "api: { username: admin }", "needs api.password_file"],
  [
    "http announced, https served",
    "api: { advertise_url: 'http://x', tls: { cert_file: /a, key_file: /b } }",
    "serves HTTPS",
  ],
  ["Patroni's name of a key", "restapi: {}", "did you mean api?"],
  ["a cluster setting", "ttl: 3s", "did you mean bootstrap.settings.ttl?"],
  ["a key of another group", "initdb: []", "did you mean bootstrap.initdb?"],
])("%s is one problem on line 6", (_, line, message) => {
  const problems = problemsIn(`${line}\n`);
  expect(problems).toHaveLength(1);
  expect(problems[0]).toMatch(/^db1\.yml:6:\d+ /);
  expect(problems[0]).toContain(message);
});

test.each([
  ["no store", "dcs: {}", "names no store"],
  ["another store", "dcs: { consul: [a] }", "names no store: add dcs.etcd"],
  ["no endpoint", "dcs: { etcd: [] }", "needs at least 1 entry"],
  ["an endpoint with three parts", "dcs: { etcd: ['a:1:2'] }", "expected host:port or a URL"],
  ["a port out of range", "dcs: { etcd: ['a:99999'] }", "expected host:port or a URL"],
  ["one endpoint twice", "dcs: { etcd: [a:1, 'http://A:1'] }", "is named twice"],
  ["half a certificate", "dcs: { etcd: { endpoints: [a], tls: { cert_file: /x } } }", "belong together"],
  ["a user without password", "dcs: { etcd: { endpoints: [a], username: x } }", "belong together"],
  ["http with TLS", "dcs: { etcd: { endpoints: ['http://a'], tls: {} } }", "would go without the TLS"],
])("dcs: %s is refused", (_, line, message) => {
  const text = minimal.replace(/^dcs:.*$/m, line);
  const problems = formatProblems(checkNodeFile(text, {}, "db1.yml").problems);
  expect(problems[0]).toContain(message);
  expect(problems[0]).toContain("db1.yml:5:");
});

test("credentials in an endpoint are refused and not repeated", () => {
  const text = minimal.replace("10.0.0.11:2379", "'http://root:hunter2@10.0.0.11:2379'");
  const problems = formatProblems(checkNodeFile(text, {}).problems).join();
  expect(problems).toContain("credentials do not belong into an endpoint");
  expect(problems).not.toContain("hunter2");
});

test.each(["0.0.0.0", "'::'", "10.0.0.1:5432", "http://db1", "'[::1]'", "a b", "''"])(
  "the address %s is refused",
  (address) => {
    const { problems } = checkNodeFile(minimal.replace("10.0.0.11\n", `${address}\n`), {});
    expect(problems).toMatchObject([{ path: "address", line: 3 }]);
  },
);

test("endpoints take their scheme from the TLS settings and IPv6 addresses their brackets", () => {
  const text = minimal
    .replace(/^dcs:.*$/m, "dcs: { etcd: { endpoints: [a, 'b:1', '[::1]:2'], tls: { ca_file: /ca } } }")
    .replace("10.0.0.11", "fd00::1");
  const { config } = checkNodeFile(text, {});
  expect(config?.dcs).toMatchObject({
    endpoints: ["https://a:2379", "https://b:1", "https://[::1]:2"],
    tls: { caFile: "/ca", certFile: null, keyFile: null },
  });
  expect(config?.api.url).toBe("http://[fd00::1]:8008");
});

test("groups whose lines are all commented out are empty groups", () => {
  expect(configOf("postgresql:\n  # port: 5433\ntags:\n").postgresql.port).toBe(5432);
});

test("free tags are kept, known ones resolved", () => {
  expect(configOf("tags: { rack: 7, team: a, ssd: true, nosync: true }").tags).toMatchObject({
    nosync: true,
    free: { rack: 7, team: "a", ssd: true },
  });
});

test("the first settings are kept as they are to be stored", () => {
  const { settings } = configOf("bootstrap: { settings: { ttl: 3s, maximum_lag_on_failover: 5 } }").bootstrap;
  expect(settings).toEqual({ ttl: "3s", max_lag_on_failover: 5 });
});

test("the environment wins over the file: texts, numbers, lists, maps, and keys inside a map", () => {
  const config = configOf("postgresql: { port: 1, rewind: true }\ntags: { rack: 1 }\n", {
    PGHERD_NODE: "7",
    PGHERD_POSTGRESQL_PORT: "5433",
    PGHERD_POSTGRESQL_REWIND: "false",
    PGHERD_POSTGRESQL_STOP_TIMEOUT: "2min",
    PGHERD_POSTGRESQL_PARAMETERS: "{ work_mem: 8MB }",
    PGHERD_TAGS: "{ team: a }",
    PGHERD_TAGS_NOSYNC: "true",
    PGHERD_DCS_ETCD: "[x:1]",
    PGHERD_DCS_ETCD_USERNAME: "u",
    PGHERD_DCS_ETCD_PASSWORD_FILE: "/p",
    PGHERD_LOG_LEVEL: "",
    PGHERD_API: "http://not-a-key-of-this-file",
  });
  expect(config).toMatchObject({
    node: "7",
    postgresql: { port: 5433, rewind: false, stopTimeoutMs: 120_000, parameters: { work_mem: "8MB" } },
    tags: { nosync: true, free: { team: "a" } },
    dcs: { endpoints: ["http://x:1"], username: "u", passwordFile: "/p" },
    log: { level: "info" },
  });
});

test("a mistake in the environment names the variable", () => {
  expect(problemsIn("", { PGHERD_API_PORT: "x", PGHERD_HOOKS: "[a", PGHERD_POSTGRESQL_PROT: "1" })).toEqual([
    expect.stringMatching(/^PGHERD_HOOKS +not valid YAML/),
    "PGHERD_POSTGRESQL_PROT            unknown variable; did you mean PGHERD_POSTGRESQL_PORT?",
    'PGHERD_API_PORT         api.port  expected a number, found "x"',
  ]);
});

test("two keys never share a variable", () => {
  const keys = schemaKeys(nodeFileJsonSchema());
  const names = keys.filter((key) => !key.group && key.inside === null).map((key) => key.path.join("_"));
  expect(names.length).toBeGreaterThan(40);
  expect(new Set(names).size).toBe(names.length);
});

test("a duplicate key is reported where it stands again, with the other mistakes", () => {
  expect(problemsIn("node: db2\nlogg: {}\n")).toEqual([
    "db1.yml:6:1  node  the key stands here a second time; remove one of the two",
    "db1.yml:7:1  logg  unknown key; did you mean log?",
  ]);
});

test.each([
  ["an unclosed list", "hooks: [\n"],
  ["a tab", "log:\n\tlevel: info\n"],
  ["a second document", "---\nnode: x\n"],
  ["an unknown alias", "hooks: *nothing\n"],
])("a YAML error (%s) is reported with its place", (_, more) => {
  const { config, problems } = checkNodeFile(minimal + more, {}, "db1.yml");
  expect(config).toBeNull();
  expect(problems[0]?.line).toBeGreaterThanOrEqual(6);
});

test("a bomb of aliases is refused", () => {
  const rows = Array.from(
    { length: 12 },
    (_, n) => `x${n + 1}: &x${n + 1} [${Array(9).fill(`*x${n}`).join()}]`,
  );
  const { config, problems } = checkNodeFile(`x0: &x0 [a]\n${rows.join("\n")}\n`, {});
  expect(config).toBeNull();
  expect(problems.length).toBeGreaterThan(0);
});

test.each(["- a", "text", "3"])("a file that is no group of keys (%s) is refused", (text) => {
  expect(checkNodeFile(text, {}).problems).toMatchObject([
    { message: expect.stringContaining("expected a group of keys") as string },
  ]);
});

test("an empty file lacks each required key", () => {
  const paths = checkNodeFile("", {}).problems.map((problem) => problem.path);
  expect(paths).toEqual(["cluster", "node", "address", "data_dir", "dcs"]);
});

const keys = schemaKeys(nodeFileJsonSchema());
const lines = stringify({
  postgresql: { port: 5433, listen: "*", rewind: true },
  api: { port: 8009, listen: "127.0.0.1" },
  log: { level: "info", format: "json" },
  tags: { nofailover: true, clonefrom: true, failover_priority: 3 },
  bootstrap: { data_checksums: true, settings: { pause: false, history_limit: 5 } },
}).split("\n");
const keyLines = lines.flatMap((line, index) => (line.includes(":") ? [index] : []));

test("each typo in a key is reported on its line", () => {
  const letters = fc.stringMatching(/^[a-z_]$/);
  const known = new Set(keys.map((key) => key.path.at(-1)));
  fc.assert(
    fc.property(fc.constantFrom(...keyLines), fc.nat(), letters, (index, position, letter) => {
      const match = /^( *)([a-z_]+):/.exec(lines[index] ?? "");
      const [indent, name] = [match?.[1] ?? "", match?.[2] ?? ""];
      const at = position % name.length;
      const wrong = name.slice(0, at) + letter + name.slice(at + 1);
      fc.pre(!known.has(wrong));
      const text = lines.with(
        index,
        `${indent}${wrong}${(lines[index] ?? "").slice(indent.length + name.length)}`,
      );
      const { problems } = checkNodeFile(minimal + text.join("\n"), {}, "x.yml");
      expect(problems).toHaveLength(1);
      expect(problems[0]).toMatchObject({ line: 6 + index, column: indent.length + 1 });
    }),
  );
});

test("no text whatever makes the check throw", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => checkNodeFile(text, {}).problems.length > 0),
  );
});

test("loading throws one fault that carries all problems, and another for a file that cannot be read", async () => {
  const dir = mkdtempSync(join(tmpdir(), "pgherd-config-"));
  try {
    const file = join(dir, "db1.yml");
    writeFileSync(file, `${minimal}logg: 1\nhook: []\n`);
    await expect(loadNodeConfig(file, {})).rejects.toMatchObject({
      code: "CONFIG_INVALID",
      detail: expect.stringMatching(/^db1\.yml:6:1 .*\ndb1\.yml:7:1 .*$/) as string,
    });
    await expect(loadNodeConfig(join(dir, "none.yml"), {})).rejects.toMatchObject({
      code: "CONFIG_UNREADABLE",
    });
    await expect(loadNodeConfig(dir, {})).rejects.toMatchObject({ code: "CONFIG_UNREADABLE" });
    writeFileSync(file, `# ${"x".repeat(300_000)}\n${minimal}`);
    await expect(loadNodeConfig(file, {})).rejects.toMatchObject({ code: "CONFIG_UNREADABLE" });
    writeFileSync(file, minimal);
    await expect(loadNodeConfig(file, {})).resolves.toMatchObject({ node: "db1" });
  } finally {
    rmSync(dir, { recursive: true });
  }
});
