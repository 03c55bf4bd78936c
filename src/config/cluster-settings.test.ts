import fc from "fast-check";
import { expect, test } from "vitest";
import type { ClusterSettings } from "./cluster-settings.ts";
import {
  checkSettings,
  checkSettingsFile,
  effectiveSettings,
  parseClusterSettings,
} from "./cluster-settings.ts";

const defaultClusterSettings = () => parseClusterSettings(null).settings;
const paths = (document: unknown): string[] => checkSettings(document).map((problem) => problem.path);

test("nothing set yields the defaults", () => {
  const defaults = defaultClusterSettings();
  expect(parseClusterSettings(null)).toEqual({ settings: defaults, stored: {}, problems: [] });
  expect(parseClusterSettings("{}").settings).toEqual(defaults);
  expect(defaults).toMatchObject({
    ttlMs: 5_000,
    maxLagOnFailoverBytes: 1_048_576,
    failover: "automatic",
    paused: false,
    reclone: { attempts: 3, waitMs: 10_000, maxWaitMs: 600_000 },
    diskStallLimitMs: 10_000,
    postgresStallLimitMs: 10_000,
    diskReserveBytes: 67_108_864,
    memberSlotsTtlMs: 1_800_000,
  } satisfies Partial<ClusterSettings>);
});

test("the defaults, written out, are valid settings and mean the same", () => {
  const written = effectiveSettings({});
  expect(checkSettings(written)).toEqual([]);
  expect(parseClusterSettings(JSON.stringify(written)).settings).toEqual(defaultClusterSettings());
});

test("what is set shows among the defaults, and unknown keys are kept", () => {
  expect(effectiveSettings({ ttl: 7, reclone: { wait: "3s" }, later: 1 })).toMatchObject({
    ttl: 7,
    failover: "automatic",
    reclone: { attempts: 3, wait: "3s" },
    later: 1,
  });
});

test("plain numbers are seconds and bytes, booleans of parameters become on and off", () => {
  const { settings, problems } = parseClusterSettings(
    '{"ttl": 3, "max_lag_on_failover": 100, "postgresql": {"parameters": {"jit": false, "work_mem": 4096, "auto_explain.log_analyze": true}}}',
  );
  expect(problems).toEqual([]);
  expect(settings.ttlMs).toBe(3_000);
  expect(settings.maxLagOnFailoverBytes).toBe(100);
  expect(settings.postgresql.parameters).toEqual({
    jit: "off",
    work_mem: "4096",
    "auto_explain.log_analyze": "on",
  });
});

test("a wrong key has its default, is reported, and leaves the others in force", () => {
  const { settings, stored, problems } = parseClusterSettings(
    '{"ttl": 1, "pause": true, "postgresql": {"parameters": {"port": 1, "jit": "off"}}}',
  );
  expect(settings).toMatchObject({ ttlMs: 5_000, paused: true, postgresql: { parameters: { jit: "off" } } });
  expect(stored).toMatchObject({ ttl: 1 });
  expect(problems.map((problem) => problem.path).sort()).toEqual(["postgresql.parameters.port", "ttl"]);
});

test.each(["", "no json", "[]", "3", "null", '{"ttl": 5', `{"a": "${"x".repeat(300_000)}"}`])(
  "a text that is no JSON object of bearable size is reported and yields the defaults",
  (text) => {
    const { settings, problems } = parseClusterSettings(text);
    expect(settings).toEqual(defaultClusterSettings());
    expect(problems).toHaveLength(1);
  },
);

test("no text whatever makes the reading throw or yield values out of bounds", () => {
  fc.assert(
    fc.property(fc.oneof(fc.json(), fc.string()), (text) => {
      const { settings } = parseClusterSettings(text);
      return settings.ttlMs >= 2_000 && settings.reclone.waitMs <= settings.reclone.maxWaitMs;
    }),
  );
});

const anything = fc.oneof(fc.jsonValue(), fc.constantFrom("5s", "1MB", "manual", true, 3));
const plainKeys = Object.entries(effectiveSettings({})).flatMap(([key, value]) =>
  typeof value === "object" ? [] : [key],
);

test("exactly the keys that are reported have no effect", () => {
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...plainKeys), anything), (document) => {
      const { settings, problems } = parseClusterSettings(JSON.stringify(document));
      const wrong = new Set(problems.map((problem) => problem.path));
      const right = Object.fromEntries(Object.entries(document).filter(([key]) => !wrong.has(key)));
      expect(parseClusterSettings(JSON.stringify(right))).toEqual({ settings, stored: right, problems: [] });
    }),
  );
});

test("bounds are named in the message", () => {
  expect(checkSettings({ ttl: "1s" })[0]?.message).toBe("1s is below the minimum 2s");
  expect(checkSettings({ ttl: "1h" })[0]?.message).toBe("1h is above the maximum 5min");
  expect(checkSettings({ history_limit: 0 })[0]?.message).toBe("0 is below the minimum 1");
});

test("a wait longer than the longest wait is refused", () => {
  expect(paths({ reclone: { wait: "1h" } })).toEqual(["reclone.wait"]);
});

test("the other name of the lag is read, but not beside a different value", () => {
  expect(parseClusterSettings('{"maximum_lag_on_failover": 42}').settings.maxLagOnFailoverBytes).toBe(42);
  expect(paths({ maximum_lag_on_failover: 1, max_lag_on_failover: 2 })).toEqual(["maximum_lag_on_failover"]);
});

test("an unknown key names the nearest, and keys of Patroni say why they are not needed", () => {
  expect(checkSettings({ faliover: "manual" })[0]?.hint).toBe("did you mean failover?");
  expect(checkSettings({ loop_wait: 10 })[0]?.hint).toContain("events");
  expect(checkSettings({ synchronous_mode: true })[0]?.hint).toContain("durability");
});

test("lines of pg_hba.conf are checked for their form", () => {
  const hba = [
    "# office",
    "",
    "host all all 10.0.0.0/8 scram-sha-256",
    "local all all peer",
    "include /etc/hba.conf",
  ];
  expect(paths({ postgresql: { pg_hba: hba } })).toEqual([]);
  expect(paths({ postgresql: { pg_hba: null } })).toEqual([]);
  expect(paths({ postgresql: { pg_hba: ["hots all all all md5"] } })).toEqual(["postgresql.pg_hba[0]"]);
  expect(paths({ postgresql: { pg_hba: ["local all all trust\nhost all all all trust"] } })).toHaveLength(1);
});

test("a settings file is YAML or JSON, and its mistakes have a line", () => {
  const { document, problems } = checkSettingsFile("ttl: 3s\nfailover: automatc\n", "settings.yml");
  expect(document).toBeNull();
  expect(problems).toMatchObject([{ file: "settings.yml", line: 2, column: 11, path: "failover" }]);
  expect(checkSettingsFile('{"maximum_lag_on_failover": 5}', "settings.json").document).toEqual({
    max_lag_on_failover: 5,
  });
  expect(checkSettingsFile("", "settings.yml")).toEqual({ document: {}, problems: [] });
});
