import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { BackupService, ClusterBackups } from "../../backup/service.ts";
import { Fault } from "../../values/fault.ts";
import { Secret } from "../../values/secret.ts";
import type { RunningListener } from "../listener.ts";
import { findBackupRoute } from "./route.ts";
import { backupRoutes } from "./routes.ts";
import { startBackupApi } from "./server.ts";

const tokens = { server: "the-servers-own", shop: "of-shop", stock: "of-stock" };
const objects: Readonly<Record<string, Buffer>> = {
  "repository.json": Buffer.from("identity"),
  "packs/00/one": Buffer.from("0123456789"),
  "clusters/shop/backups/a/backup.json": Buffer.from("shop"),
  "clusters/stock/backups/b/backup.json": Buffer.from("stock"),
};

describe("the API of a backup server", () => {
  let api: RunningListener;
  let done: unknown[];

  beforeEach(async () => {
    done = [];
    const cluster = (name: string): ClusterBackups =>
      ({
        name,
        status: () => ({ cluster: name, problem: null, jobs: [], schedules: [], restorable: null }),
        backups: () => [],
        check: () => [{ name: "backup", level: "warning", text: "", value: null }],
        backup: (id: string) => {
          if (id === "nothing") throw new Fault("BACKUP_NOT_FOUND", "There is no backup nothing");
          return { id: `${id}-whole`, startLsn: 0x1000028n };
        },
        start: (job: unknown) => {
          done.push(job);
          return { id: "job-1", state: "waiting" };
        },
        delete: (id: string, options: object) => {
          done.push({ delete: id, ...options });
          return Promise.resolve({ id });
        },
        keep: (id: string, how: unknown) => {
          done.push({ keep: id, how });
          return Promise.resolve({ id });
        },
        fetchWal: (file: string) => Promise.resolve(file.endsWith("1") ? Buffer.from("wal") : null),
        storeWal: (segment: unknown) => {
          done.push(segment);
          return Promise.resolve("stored");
        },
      }) as unknown as ClusterBackups;
    const service = {
      server: { name: "archive" },
      clusters: () => ["shop", "stock"],
      cluster: (name: string) => {
        if (!["shop", "stock"].includes(name)) throw new Fault("NOT_FOUND", `no cluster ${name}`);
        return cluster(name);
      },
      jobs: () => [{ id: "job-1", cluster: "shop", state: "running", progress: null }],
      job: (id: string) => ({ id }),
      cancel: (id: string) => {
        done.push({ cancel: id });
        return { id };
      },
      store: {
        stat: (key: string) => Promise.resolve(key in objects ? { key, bytes: objects[key]!.length } : null),
        get: (key: string) => Promise.resolve(objects[key] ?? null),
        getRange: (key: string, offset: number, length: number) =>
          Promise.resolve(objects[key]?.subarray(offset, offset + length) ?? null),
        list: async function* (prefix: string) {
          await Promise.resolve();
          for (const [key, bytes] of Object.entries(objects))
            if (key.startsWith(prefix)) yield { key, bytes: bytes.length };
        },
      },
    } as unknown as BackupService;
    api = await startBackupApi({
      service,
      listen: "127.0.0.1",
      port: 0,
      tls: null,
      token: new Secret(tokens.server),
      tokenOf: (name) => (name === "shop" || name === "stock" ? new Secret(tokens[name]) : null),
      log: () => undefined,
    });
  });
  afterEach(() => api.close());

  const ask = (
    method: string,
    path: string,
    token: string | null = null,
    body?: unknown,
    more: Record<string, string> = {},
  ): Promise<Response> =>
    fetch(`${api.url}${path}`, {
      method,
      headers: { ...more, ...(token !== null && { authorization: `Bearer ${token}` }) },
      ...(body !== undefined && {
        body: Buffer.isBuffer(body) ? new Uint8Array(body) : JSON.stringify(body),
      }),
    });
  const codeOf = async (answer: Promise<Response>): Promise<number> => (await answer).status;

  it("is read by everybody as far as no data of the database is in it", async () => {
    for (const path of [
      "/v1/status",
      "/v1/clusters/shop/status",
      "/v1/clusters/shop/backups",
      "/v1/jobs",
      "/health",
    ])
      expect(await codeOf(ask("GET", path)), path).toBe(200);
    expect(await (await ask("GET", "/v1/clusters/shop/backups/2026")).json()).toEqual({
      id: "2026-whole",
      start_lsn: "0/1000028",
    });
  });

  it.each([
    ["POST", "/v1/clusters/shop/jobs"],
    ["DELETE", "/v1/clusters/shop/backups/a"],
    ["PUT", "/v1/clusters/shop/backups/a/keep"],
    ["DELETE", "/v1/jobs/job-1"],
    ["GET", "/v1/clusters/shop/wal/files/000000010000000000000001"],
    ["GET", "/v1/objects/clusters/shop/backups/a/backup.json"],
    ["GET", "/v1/objects?prefix=clusters/shop/"],
  ])("%s %s needs the server's token, or the cluster's own and no other's", async (method, path) => {
    const body = method === "POST" ? { kind: "verify" } : undefined;
    expect(await codeOf(ask(method, path, null, body))).toBe(401);
    expect(await codeOf(ask(method, path, "wrong", body))).toBe(401);
    expect(await codeOf(ask(method, path, tokens.stock, body))).toBe(401);
    expect(done).toEqual([]);
    expect(await codeOf(ask(method, path, tokens.shop, body))).toBeLessThan(300);
    expect(await codeOf(ask(method, path, tokens.server, body))).toBeLessThan(300);
  });

  it("opens to a cluster what all share, and nothing of another or of everything", async () => {
    expect(await codeOf(ask("GET", "/v1/objects/repository.json", tokens.shop))).toBe(200);
    expect(await codeOf(ask("GET", "/v1/objects/packs/00/one", tokens.stock))).toBe(200);
    expect(await codeOf(ask("GET", "/v1/objects?prefix=", tokens.shop))).toBe(401);
    expect(await codeOf(ask("GET", "/v1/objects?prefix=clusters/", tokens.shop))).toBe(401);
    expect(
      await codeOf(ask("GET", "/v1/objects/clusters/shop/../stock/backups/b/backup.json", tokens.shop)),
    ).toBe(401);
    expect(await codeOf(ask("GET", "/v1/objects/clusters/shop%2f..%2fstock/x", tokens.shop))).not.toBe(200);
  });

  it("refuses a page of another origin whatever token it has", async () => {
    const answer = await ask(
      "POST",
      "/v1/clusters/shop/jobs",
      tokens.server,
      { kind: "verify" },
      {
        "sec-fetch-site": "cross-site",
      },
    );
    expect([answer.status, done]).toEqual([403, []]);
  });

  it("makes a job of what is asked for, with its defaults", async () => {
    const start = (body: unknown): Promise<Response> =>
      ask("POST", "/v1/clusters/shop/jobs", tokens.shop, body);
    expect((await start({ kind: "base", label: "monday", max_rate: 1_000_000 })).status).toBe(202);
    expect((await start({ kind: "base", from: { node: "db2" }, type: "full" })).status).toBe(202);
    expect((await start({ kind: "drill", backup: "2026" })).status).toBe(202);
    expect(done).toEqual([
      {
        kind: "base",
        cluster: "shop",
        type: "auto",
        from: "auto",
        maxRate: 1_000_000,
        checkpoint: "fast",
        label: "monday",
        reason: "asked for",
      },
      expect.objectContaining({ type: "full", from: { node: "db2" } }),
      { kind: "drill", cluster: "shop", backup: "2026-whole", reason: "asked for" },
    ]);
    for (const wrong of [
      {},
      { kind: "nothing" },
      { kind: "base", label: "a/b" },
      { kind: "base", lable: "x" },
      7,
    ])
      expect((await start(wrong)).status, JSON.stringify(wrong)).toBe(400);
    expect((await start({ kind: "verify", backup: "nothing" })).status).toBe(404);
    expect(done).toHaveLength(3);
  });

  it("gives and takes WAL as bytes", async () => {
    const path = "/v1/clusters/shop/wal/files/000000010000000000000001";
    expect(await (await ask("GET", path, tokens.shop)).text()).toBe("wal");
    const missing = await ask("GET", "/v1/clusters/shop/wal/files/000000010000000000000002", tokens.shop);
    expect([missing.status, ((await missing.json()) as { code: string }).code]).toEqual([
      404,
      "BACKUP_WAL_UNKNOWN",
    ]);
    const put = await ask("PUT", path, tokens.shop, Buffer.from("bytes"), {
      "x-pgherd-token": "7",
      "x-pgherd-source": "db1",
    });
    expect(await put.json()).toEqual({ outcome: "stored" });
    expect(done).toEqual([
      { name: "000000010000000000000001", bytes: Buffer.from("bytes"), token: 7, source: "pushed by db1" },
    ]);
    expect(await codeOf(ask("GET", "/v1/clusters/shop/wal/files/backup_label", tokens.shop))).toBe(400);
    expect(await codeOf(ask("PUT", path, tokens.shop, Buffer.from("x"), { "x-pgherd-token": "no" }))).toBe(
      400,
    );
  });

  it("gives ranges of objects", async () => {
    const range = (value: string): Promise<Response> =>
      ask("GET", "/v1/objects/packs/00/one", tokens.shop, undefined, { range: value });
    const part = await range("bytes=2-4");
    expect([part.status, part.headers.get("content-range"), await part.text()]).toEqual([
      206,
      "bytes 2-4/10",
      "234",
    ]);
    expect(await (await range("bytes=7-")).text()).toBe("789");
    expect(await (await range("bytes=8-99")).text()).toBe("89");
    for (const wrong of ["bytes=10-", "bytes=5-2", "bytes=-3", "lines=1-2"])
      expect((await range(wrong)).status, wrong).toBe(400);
    const head = await ask("HEAD", "/v1/objects/packs/00/one", tokens.shop);
    expect([head.headers.get("content-length"), await head.text()]).toEqual(["10", ""]);
    const lines = (await (await ask("GET", "/v1/objects?prefix=packs/", tokens.shop)).text()).trim();
    expect(lines).toBe('{"key":"packs/00/one","bytes":10}');
  });

  it("says what a path takes, and what there is not", async () => {
    const wrong = await ask("POST", "/v1/status", tokens.server);
    expect([wrong.status, wrong.headers.get("allow")]).toEqual([405, "GET"]);
    expect(await codeOf(ask("GET", "/v1/nothing"))).toBe(404);
    expect(await codeOf(ask("GET", "/v1/clusters/other/status"))).toBe(404);
    expect(await codeOf(ask("GET", "/v1/clusters/%zz/status"))).toBe(404);
  });

  it("has metrics of every cluster", async () => {
    const text = await (await ask("GET", "/metrics")).text();
    expect(text).toMatch(/^pgherd_backup_jobs\{server="archive",state="running"\} 1$/m);
    expect(text).toMatch(/^pgherd_backup_receiver_streaming\{server="archive",cluster="stock"\} 0$/m);
    expect(text).toMatch(/^pgherd_backup_check\{server="archive",cluster="shop",check="backup"\} 1$/m);
  });
});

describe("a path of the API", () => {
  const namesIn = (path: string): unknown => {
    const found = findBackupRoute(backupRoutes, "GET", path);
    return found !== null && "names" in found ? found.names : null;
  };

  it("is matched part by part; the last name may take all the rest", () => {
    expect(namesIn("/v1/clusters/a/backups/b%2Fc")).toEqual({ cluster: "a", id: "b/c" });
    expect(namesIn("/v1/objects/a/b/c")).toEqual({ key: "a/b/c" });
    for (const path of ["/v1/objects/", "/v1/objects/a//b", "/v2/objects/a", "/v1/jobs/a/b", "/v1/jobs/"])
      expect(namesIn(path), path).toBeNull();
  });
});
