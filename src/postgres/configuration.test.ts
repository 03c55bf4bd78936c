import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { systemClock } from "../system/clock.ts";
import { systemTimers } from "../system/timers.ts";
import type { NodeName } from "../values/names.ts";
import { Secret } from "../values/secret.ts";
import { openHba, renderHba, renderIdent, renderPassfile } from "./access.ts";
import {
  conninfo,
  postmasterArguments,
  quoteSetting,
  renderConfiguration,
  stripAutoConf,
} from "./configuration.ts";
import type { PostgresSettings } from "./instance.ts";
import { installation, type Installation } from "./options.ts";

const role = (user: string): { user: string; password: Secret } => ({
  user,
  password: new Secret(`${user} secret`),
});
const secrets = { superuser: role("postgres"), replication: role("streamer"), rewind: role("rewinder") };
const at: Installation = {
  ...installation({
    dataDir: "/d/it's",
    stateDir: "/s",
    binDir: "/b",
    configDir: "/etc/c",
    port: 5432,
    listenAddresses: "*",
    socketDir: "/run",
    node: "n1" as NodeName,
    clusterName: "main",
    secrets: () => secrets,
    clock: systemClock,
    timers: systemTimers,
    log: () => undefined,
  }),
  osUser: "agent",
};
const settings: PostgresSettings = {
  parameters: {},
  synchronousStandbyNames: "",
  admission: "everyone",
  hba: null,
  restoreCommand: null,
  recoveryMinApplyDelayMs: null,
};
const upstream = { host: "10.0.0.1", port: 5433, slot: "n1", applicationName: "n1:7" };

/** The last value a file gives a parameter, which is the one PostgreSQL takes. */
function effective(text: string, name: string): string | undefined {
  return [...text.matchAll(new RegExp(`^${name} = '(.*)'$`, "gm"))].at(-1)?.[1];
}

describe("the generated postgresql.conf", () => {
  test("lets the user's file override defaults and the cluster's settings override the user's file", () => {
    const text = renderConfiguration(at, { ...settings, parameters: { work_mem: "9MB" } }, null, 15);
    const places = [
      "wal_keep_size =",
      "include_if_exists '/etc/c/postgresql.conf'",
      "work_mem =",
      "primary_conninfo =",
    ];
    const found = places.map((each) => text.indexOf(each));
    expect(found).toEqual([...found].sort((a, b) => a - b));
    expect(Math.min(...found)).toBeGreaterThan(0);
  });

  test("does not take from the cluster's settings what pgherd decides", () => {
    const parameters = {
      primary_conninfo: "host=evil",
      Restore_Command: "rm",
      port: "1",
      recovery_target_time: "now",
    };
    const text = renderConfiguration(at, { ...settings, parameters }, null, 15);
    expect(text).not.toMatch(/evil|= 'rm'|port = '1'|'now'/);
    expect(effective(text, "primary_conninfo")).toBe("");
  });

  test("names the upstream without its password, and quotes paths", () => {
    const text = renderConfiguration(at, settings, upstream, 15);
    expect(effective(text, "primary_conninfo")).toContain(
      "host=''10.0.0.1'' port=''5433'' user=''streamer''",
    );
    expect(effective(text, "primary_conninfo")).toContain("application_name=''n1:7''");
    expect(effective(text, "primary_slot_name")).toBe("n1");
    expect(effective(text, "data_directory")).toBe("/d/it''s");
    expect(text).not.toContain("secret");
  });

  test("always says which standbys are waited for, nobody by default (P6)", () => {
    expect(effective(renderConfiguration(at, settings, null, 15), "synchronous_standby_names")).toBe("");
    const synchronousStandbyNames = 'ANY 1 ("a")';
    const text = renderConfiguration(at, { ...settings, synchronousStandbyNames }, null, 15);
    expect(effective(text, "synchronous_standby_names")).toBe('ANY 1 ("a")');
  });

  test("names the trigger file only to versions that know it", () => {
    expect(renderConfiguration(at, settings, null, 15)).toContain("promote_trigger_file = ''");
    expect(renderConfiguration(at, settings, null, 16)).not.toContain("promote_trigger_file");
  });

  test("names the way to sync after a crash only to a version that knows it, and a user's choice wins", () => {
    expect(renderConfiguration(at, settings, null, 13)).not.toContain("recovery_init_sync_method");
    const parameters = { recovery_init_sync_method: "fsync" };
    const text = renderConfiguration(at, { ...settings, parameters }, null, 15);
    expect(effective(text, "recovery_init_sync_method")).toBe("fsync");
  });

  test("refuses a name that would break the file", () => {
    const render = (): string =>
      renderConfiguration(at, { ...settings, parameters: { "a = 1\nb": "2" } }, null, 15);
    expect(render).toThrow(expect.objectContaining({ code: "CONFIG_INVALID" }) as Error);
  });

  test("holds every value on one line", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), (value) => {
        const quoted = quoteSetting(value.replace(/\r/g, ""));
        expect(quoted).not.toContain("\n");
        expect(quoted.slice(1, -1).replace(/''/g, "")).not.toContain("'");
      }),
    );
  });

  test("does not come to arguments with secrets", () => {
    const args = postmasterArguments(at, "", { max_connections: "200" });
    expect(args).toContain("max_connections=200");
    expect(args).toContain("listen_addresses=");
    expect(args).toContain("restart_after_crash=off");
    expect(args.join(" ")).not.toContain("secret");
  });
});

describe("postgresql.auto.conf", () => {
  test("loses what pgherd decides and keeps the rest, comments too", () => {
    const text = [
      "# Do not edit this file manually!",
      "work_mem = '9MB'",
      "primary_conninfo = 'host=a'",
      "  Primary_Slot_Name='x'",
      "recovery_target_time = '2020-01-01'",
      "synchronous_standby_names = '*'",
      "",
    ].join("\n");
    expect(stripAutoConf(text)).toBe("# Do not edit this file manually!\nwork_mem = '9MB'\n");
  });
});

describe("access files", () => {
  test("let the agent, replication and rewind in before anybody else", () => {
    expect(renderHba(at, settings, { hba: null, ident: null }, 15).split("\n").slice(1, 4)).toEqual([
      'local all "postgres" peer map=pgherd',
      'host replication "streamer" all scram-sha-256',
      'host all "rewinder" all scram-sha-256',
    ]);
    expect(renderIdent(at, { hba: null, ident: "mine a b" }, 15)).toContain(
      'pgherd "agent" "postgres"\nmine a b',
    );
  });

  test("ask the agent for its password where its user has no name", () => {
    const nameless = { ...at, osUser: null };
    expect(renderHba(nameless, settings, { hba: null, ident: null }, 15)).toContain(
      'local all "postgres" scram-sha-256',
    );
    expect(renderIdent(nameless, { hba: null, ident: null }, 15)).not.toContain("postgres");
  });

  test("take the cluster's lines, else the user's file, else everybody with a password", () => {
    const own = { hba: "host all all 10.0.0.0/8 md5", ident: null };
    const given = renderHba(at, { ...settings, hba: ["host all app all scram-sha-256"] }, own, 15);
    expect(given).toContain("host all app all scram-sha-256");
    expect(given).not.toContain("md5");
    expect(renderHba(at, settings, own, 15)).toContain("host all all 10.0.0.0/8 md5");
    expect(renderHba(at, settings, own, 16)).toContain('include "/etc/c/pg_hba.conf"');
    const open = renderHba(at, settings, { hba: null, ident: null }, 15);
    for (const line of openHba) expect(open).toContain(line);
  });

  test("while clients are kept out, let in pgherd's own and what is about replication alone (P6)", () => {
    const closed: PostgresSettings = { ...settings, admission: "replication" };
    const own = {
      hba: 'host all all all trust\nhost replication barman 10.0.0.9/32 md5\nhost "replication" app all trust',
      ident: null,
    };
    const lines = renderHba(at, closed, own, 15)
      .split("\n")
      .filter((line) => /^(local|host)/.test(line));
    expect(lines).toEqual([
      'local all "postgres" peer map=pgherd',
      'host replication "streamer" all scram-sha-256',
      'host all "rewinder" all scram-sha-256',
      "host replication barman 10.0.0.9/32 md5",
      "local all all reject",
      "host all all all reject",
    ]);
    const given = renderHba(at, { ...closed, hba: [...openHba] }, own, 16);
    for (const line of openHba) expect(given).not.toContain(line);
  });

  test("escape what libpq takes for a separator", () => {
    const tricky = { user: "a:b", password: new Secret("c\\d:e") };
    expect(renderPassfile([tricky])).toBe("*:*:*:a\\:b:c\\\\d\\:e\n");
    expect(conninfo({ host: "it's \\ me" })).toBe("host='it\\'s \\\\ me'");
  });
});
