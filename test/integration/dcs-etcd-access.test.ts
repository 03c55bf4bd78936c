import { describe, expect, test } from "vitest";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { commit, record, replay } from "../../src/dcs/dcs.contract.ts";
import { Secret } from "../../src/values/secret.ts";
import { makeCertificates } from "../support/certificates.ts";
import { etcdClient } from "../support/dcs-load.ts";
import { startEtcd, type EtcdMember, type EtcdOptions, type TestEtcd } from "../support/etcd.ts";

const auth = { rootPassword: "root-secret", username: "pgherd", password: "s3cret Ä", prefix: "/service/" };
const login = { username: auth.username, password: new Secret(auth.password) };
const prefix = "/service/shop/";

async function withEtcd(options: EtcdOptions, body: (etcd: TestEtcd) => Promise<void>): Promise<void> {
  const etcd = await startEtcd(options);
  try {
    await body(etcd);
  } finally {
    await etcd.stop();
  }
}

describe("etcd with authentication", () => {
  test("refuses wrong passwords, missing ones and foreign prefixes with DCS_DENIED", () =>
    withEtcd({ auth }, async ({ endpoints }) => {
      const denied = [
        etcdClient({ endpoints, prefix, username: auth.username, password: new Secret("wrong") }),
        etcdClient({ endpoints, prefix, username: "nobody", password: new Secret("wrong") }),
        etcdClient({ endpoints, prefix }),
        etcdClient({ endpoints, prefix: "/elsewhere/", ...login }),
      ];
      for (const dcs of denied) {
        const fault: unknown = await dcs.read(3000).catch((thrown: unknown) => thrown);
        expect(fault).toMatchObject({ code: "DCS_DENIED" });
        expect(JSON.stringify(fault)).not.toContain("wrong");
        const write = dcs.transact({ checks: [], writes: [{ key: "k", value: "1" }] }, 3000);
        await expect(write).rejects.toMatchObject({ code: "DCS_DENIED" });
        await dcs.close();
      }
      const allowed = etcdClient({ endpoints, prefix, ...login });
      expect((await allowed.read(3000)).entries.size).toBe(0);
      await allowed.close();
    }));

  test("a watch without rights says so and begins when the rights are given", () =>
    withEtcd({ auth }, async ({ endpoints, ctl }) => {
      const dcs = etcdClient({ endpoints, prefix: "/elsewhere/", ...login });
      const watched = record(dcs);
      await watched.until((events) => events.some((event) => event.kind === "lost"));
      expect(watched.events[0]).toMatchObject({
        reason: expect.stringMatching(/permission denied/) as string,
      });
      await ctl("role", "grant-permission", "cluster", "--prefix=true", "readwrite", "/elsewhere/");
      await watched.until((events) => events.some((event) => event.kind === "snapshot"));
      await commit(dcs, [], [["k", "1"]]);
      await watched.until((events) => replay(events).has("k"));
      await dcs.close();
    }));

  test("a new token is fetched when etcd forgot the old one, for requests and for the watch", () =>
    withEtcd({ auth }, async ({ endpoints, members, ready }) => {
      const dcs = etcdClient({ endpoints, prefix, ...login });
      const version = await commit(dcs, [], [["k", "1"]]);
      const watched = record(dcs);
      await watched.until((events) => events.length > 0);
      const [member] = members as [EtcdMember];
      await member.kill();
      await member.restart();
      await ready();
      await commit(dcs, [["k", version]], [["k", "2"]]);
      await watched.until((events) => replay(events).get("k") === "2");
      expect(watched.events.filter((event) => event.kind === "snapshot")).toHaveLength(1);
      await dcs.close();
    }));

  test("an expired token is renewed without a failed request", () =>
    withEtcd({ auth, args: ["--auth-token-ttl=1"] }, async ({ endpoints, ctl }) => {
      const dcs = etcdClient({ endpoints, prefix, ...login });
      await dcs.read(3000);
      // Two logins of others, each longer than a token lives, are a wait for a condition of etcd's own clock.
      const started = performance.now();
      while (performance.now() - started < 2500) await ctl("get", "/service/x");
      await expect(dcs.read(3000)).resolves.toBeDefined();
      await dcs.close();
    }));

  test("authentication may be switched on while a client with a login runs", () =>
    withEtcd({}, async ({ endpoints, ctl }) => {
      const dcs = etcdClient({ endpoints, prefix, ...login });
      const version = await commit(dcs, [["k", 0]], [["k", "1"]]);
      await ctl("user", "add", "root:root-secret");
      await ctl("user", "grant-role", "root", "root");
      await ctl("role", "add", "cluster");
      await ctl("role", "grant-permission", "cluster", "--prefix=true", "readwrite", auth.prefix);
      await ctl("user", "add", `${auth.username}:${auth.password}`);
      await ctl("user", "grant-role", auth.username, "cluster");
      await ctl("auth", "enable");
      await commit(dcs, [["k", version]], [["k", "2"]]);
      expect((await dcs.read(3000)).entries.get("k")?.value).toBe("2");
      await dcs.close();
    }));
});

describe("etcd with TLS", () => {
  test("a client with a certificate reads, writes and watches", () =>
    withEtcd({ tls: "mutual", members: 1 }, async ({ endpoints, clientTls }) => {
      const dcs = etcdClient({ endpoints, prefix, tls: clientTls });
      const watched = record(dcs);
      await watched.until((events) => events.length > 0);
      await commit(dcs, [["k", 0]], [["k", "1"]]);
      await watched.until((events) => replay(events).has("k"));
      await dcs.close();
    }));

  test("a client certificate's name is the user where etcd has authentication on", () =>
    withEtcd({ tls: "mutual", auth: { ...auth, username: "client" } }, async ({ endpoints, clientTls }) => {
      const dcs = etcdClient({ endpoints, prefix, tls: clientTls });
      await commit(dcs, [["k", 0]], [["k", "1"]]);
      const elsewhere = etcdClient({ endpoints, prefix: "/elsewhere/", tls: clientTls });
      await expect(elsewhere.read(3000)).rejects.toMatchObject({ code: "DCS_DENIED" });
      await Promise.all([dcs.close(), elsewhere.close()]);
    }));

  test("a client without the wanted certificate is told DCS_DENIED", () =>
    withEtcd({ tls: "mutual" }, async ({ endpoints, clientTls }) => {
      const dcs = etcdClient({ endpoints, prefix, tls: { caFile: clientTls?.caFile } });
      await expect(dcs.read(1000)).rejects.toMatchObject({
        code: "DCS_DENIED",
        detail: expect.stringMatching(/certificate/i) as string,
      });
      await dcs.close();
    }));

  test("a server of another authority is not talked to", () =>
    withEtcd({ tls: "server" }, async ({ endpoints }) => {
      const dir = await mkdtemp(join(tmpdir(), "pgherd-ca-"));
      const { other } = await makeCertificates(dir, ["other"]);
      const dcs = etcdClient({ endpoints, prefix, tls: { caFile: other.caFile } });
      await expect(dcs.read(1000)).rejects.toMatchObject({
        code: "DCS_UNREACHABLE",
        detail: expect.stringMatching(/certificate|self-signed|self signed/) as string,
      });
      await dcs.close();
      await rm(dir, { recursive: true });
    }));

  test("a plain client at a TLS port, and a TLS client at a plain port, end with DCS_UNREACHABLE", () =>
    withEtcd({ tls: "server" }, async ({ endpoints, clientTls }) => {
      const plain = etcdClient({ endpoints: endpoints.map((url) => url.replace("https:", "http:")), prefix });
      await expect(plain.read(500)).rejects.toMatchObject({ code: "DCS_UNREACHABLE" });
      await plain.close();
      await withEtcd({}, async (open) => {
        const secure = open.endpoints.map((url) => url.replace("http:", "https:"));
        const dcs = etcdClient({ endpoints: secure, prefix, tls: clientTls });
        await expect(dcs.read(500)).rejects.toMatchObject({ code: "DCS_UNREACHABLE" });
        await dcs.close();
      });
    }));

  test("files that cannot be read are said at once", () => {
    expect(() =>
      etcdClient({ endpoints: ["127.0.0.1:1"], prefix, tls: { caFile: "/nonexistent/ca.crt" } }),
    ).toThrow(expect.objectContaining({ code: "CONFIG_UNREADABLE" }) as Error);
  });
});
