import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { BackupServerProcess } from "../support/backup-server.ts";
import { makeCertificates } from "../support/certificates.ts";
import { plainServer, type PlainServer } from "../support/plain-server.ts";
import { makeTempDir, waitFor } from "../support/process.ts";

interface Status {
  readonly receiver: {
    readonly state: string;
    readonly problem: { readonly detail: string; readonly hint: string } | null;
  } | null;
  readonly backups: number;
}

const password = "s3cret-of-the-database";
const home = makeTempDir("backup-tls");
let database: PlainServer;
let authority: string;
let foreign: string;
let passwordFile: string;
const servers: BackupServerProcess[] = [];

beforeAll(async () => {
  const own = await makeCertificates(home.path, ["server"]);
  authority = own.server.caFile;
  const elsewhere = join(home.path, "elsewhere");
  mkdirSync(elsewhere);
  foreign = (await makeCertificates(elsewhere, ["server"])).server.caFile;
  database = await plainServer(join(home.path, "db"));
  // PostgreSQL wants a key that nobody else may read.
  const key = join(home.path, "db", "server.key");
  copyFileSync(own.server.keyFile, key);
  chmodSync(key, 0o600);
  database.configure({
    ssl: "on",
    ssl_cert_file: own.server.certFile,
    ssl_key_file: key,
    listen_addresses: "*",
  });
  // Nobody is let in over TCP who does not encrypt.
  writeFileSync(
    join(database.dataDir, "pg_hba.conf"),
    [
      "local all all trust",
      "hostssl all all all scram-sha-256",
      "hostssl replication all all scram-sha-256",
      "",
    ].join("\n"),
  );
  await database.start();
  await database.sql(`alter role postgres password '${password}'`);
  passwordFile = join(home.path, "password");
  writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
});
afterAll(async () => {
  for (const server of servers) await server.stop();
  await database.stop("immediate");
  await home.remove();
});

/** A backup server that connects to the database so. */
async function serverWith(name: string, host: string, tls: string): Promise<BackupServerProcess> {
  const who = `user: postgres, password_file: ${passwordFile}`;
  const server = await BackupServerProcess.create(join(home.path, name), [
    "cluster: test",
    `name: ${name}`,
    "retention: REDUNDANCY 2",
    "minimum_redundancy: 1",
    `connection: { hosts: ["${host}:${database.port}"], ${who}, ${tls} }`,
  ]);
  servers.push(server);
  await server.start();
  return server;
}

/** Its receiver, a backup and a statement are refused, and each says so. */
async function refuses(server: BackupServerProcess, ...words: readonly string[]): Promise<void> {
  const problem = await waitFor(async () => (await server.json<Status>("status")).receiver?.problem ?? null, {
    timeoutMs: 30_000,
    what: "the receiver says what is wrong",
  });
  const [backup, point] = [await server.command("run"), await server.command("point", "refused")];
  expect([backup.code, point.code]).not.toContain(0);
  for (const text of [`${problem.detail} ${problem.hint}`, backup.stderr, point.stderr]) {
    for (const word of words) expect(text.replaceAll(/\s+/g, " ")).toContain(word);
    expect(text).not.toContain(password);
  }
  expect((await server.json<Status>("status")).backups).toBe(0);
  await server.stop();
}

/** Sessions of the server by whether they are encrypted. */
async function sessions(kind: string): Promise<readonly unknown[]> {
  const rows = await database.sql(
    `select distinct ssl from pg_stat_ssl join pg_stat_activity using (pid) where backend_type = '${kind}'`,
  );
  return rows.map(({ ssl }) => ssl);
}

describe("a backup server and PostgreSQL over TLS", () => {
  it.each([
    ["a name its certificate has", "named", "localhost", (ca: string) => `tls: verify-full, ca_file: ${ca}`],
    [
      "an address its certificate has",
      "address",
      "127.0.0.1",
      (ca: string) => `tls: verify-full, ca_file: ${ca}`,
    ],
    ["any name, without an authority", "unchecked", "127.0.0.2", () => "tls: require"],
    [
      "any name, when it is encrypted only where that is offered",
      "prefers",
      "127.0.0.2",
      () => "tls: prefer",
    ],
  ])("receives, copies and runs statements: %s", async (_, name, host, tls) => {
    const server = await serverWith(name, host, tls(authority));
    await waitFor(
      async () => {
        const now = await server.json<Status>("status");
        if (now.receiver?.state === "streaming" && now.backups === 1) return true;
        throw new Error(`${JSON.stringify(now)} ${server.logText().slice(-2000)}`);
      },
      { timeoutMs: 90_000, what: "it streams and has a backup" },
    );
    expect(await sessions("walsender")).toEqual([true]);
    const point = await server.command("point", `from-${name}`);
    expect(point.code, point.stderr).toBe(0);
    const verified = await server.command("verify", "latest");
    expect(verified.code, verified.stderr).toBe(0);
    await server.stop();
  });

  it("refuses a server that another authority signed", async () => {
    const server = await serverWith("foreign", "localhost", `tls: verify-full, ca_file: ${foreign}`);
    await refuses(server, `connection.ca_file must name the authority that signed it; ${foreign} did not.`);
  });

  it("refuses a server nobody here vouches for", async () => {
    const server = await serverWith("system", "localhost", "tls: verify-full");
    await refuses(server, "the system's authorities did not");
  });

  it("refuses a server with another name in its certificate", async () => {
    const server = await serverWith("misnamed", "127.0.0.2", `tls: verify-full, ca_file: ${authority}`);
    await refuses(server, `127.0.0.2:${database.port}`, "by a name or address that its certificate has");
  });

  it("says that a file holds no authority, and that a server wants encryption", async () => {
    const garbage = join(home.path, "garbage.pem");
    writeFileSync(garbage, "no certificate\n");
    const server = await serverWith("garbage", "localhost", `tls: verify-full, ca_file: ${garbage}`);
    await refuses(server, garbage, "a file with certificates in PEM form");
    await refuses(await serverWith("plain", "localhost", "tls: disable"), "no encryption");
  });
});
