import { once } from "node:events";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { type AddressInfo, connect as connectPlain, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type TLSSocket } from "node:tls";
import { X509Certificate } from "node:crypto";
import { afterEach, beforeEach, expect, test } from "vitest";
import { NetSocket, serverOptions } from "./net-socket.ts";
import { selfSigned } from "./self-signed.ts";
import { ClientTls, endPointOf } from "./tls.ts";
import { certificateHash } from "../pgwire/certificate-hash.ts";

const now = (): Date => new Date("2026-06-01T00:00:00Z");
let dir: string;
let server: Server | null = null;
const open: { destroy: () => void }[] = [];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "pgherd-tls-"));
});
afterEach(async () => {
  for (const socket of open.splice(0)) socket.destroy();
  server?.close();
  await rm(dir, { recursive: true });
});

function settings(certFile: string | null, keyFile: string | null): Parameters<typeof ClientTls.open>[0] {
  return { mode: "allow", certFile, keyFile, clientCaFile: null };
}

/** Puts a certificate for `host` where `a.crt` and `a.key` are read. */
async function write(host: string): Promise<Buffer> {
  const pair = selfSigned(host, now(), new Date("2036-01-01T00:00:00Z"));
  await writeFile(join(dir, "a.crt"), pair.cert);
  await writeFile(join(dir, "a.key"), pair.key);
  return new X509Certificate(pair.cert).raw;
}

/** Connects with TLS. @returns the two ends */
async function handshake(
  tls: ClientTls,
): Promise<{ client: TLSSocket; wire: NetSocket; accepted: TLSSocket }> {
  server?.close();
  server = createServer(serverOptions);
  const listening = server;
  await new Promise<void>((resolve) => listening.listen(0, "127.0.0.1", resolve));
  const accepted = once(listening, "connection").then(async ([socket]: unknown[]) => {
    const wire = NetSocket.accept(socket as Parameters<typeof NetSocket.accept>[0]);
    open.push(wire);
    return { wire, accepted: await wire.secure((plain) => tls.secure(plain)) };
  });
  const { port } = listening.address() as AddressInfo;
  const client = connect({ host: "127.0.0.1", port, rejectUnauthorized: false });
  open.push(client);
  await once(client, "secureConnect");
  return { client, ...(await accepted) };
}

test("bytes pass in both ways, and every end of a write is told", async () => {
  await write("a.example");
  const tls = await ClientTls.open(settings(join(dir, "a.crt"), join(dir, "a.key")), {
    stateDir: dir,
    host: "h",
    now,
  });
  const { client, wire } = await handshake(tls);
  expect(wire.encrypted).toBe(true);
  const heard = new Promise<string>((resolve) => {
    wire.onBytes = (buffer, length) => resolve(buffer.toString("latin1", 0, length));
  });
  wire.resume();
  client.write("question");
  expect(await heard).toBe("question");
  const drained = new Promise<void>((resolve) => (wire.onDrain = resolve));
  const reused = Buffer.from("answer");
  expect(wire.write(reused, 0, reused.length)).toBe(true);
  reused.fill(0);
  expect(((await once(client, "data")) as Buffer[])[0]?.toString()).toBe("answer");
  await drained;
  expect(wire.queued).toBe(0);
  const closed = new Promise<Error | null>((resolve) => (wire.onClose = resolve));
  wire.onEnd = () => wire.end();
  client.end();
  expect(await closed).toBeNull();
});

test("new files are in force for the next connection, a broken one leaves the one before in force", async () => {
  const first = await write("first.example");
  const tls = await ClientTls.open(settings(join(dir, "a.crt"), join(dir, "a.key")), {
    stateDir: dir,
    host: "h",
    now,
  });
  const shown = async (): Promise<Buffer> => {
    const { client, accepted } = await handshake(tls);
    const { raw } = client.getPeerCertificate();
    expect(endPointOf(accepted)).toEqual(certificateHash(raw));
    return raw;
  };
  expect(await shown()).toEqual(first);
  const second = await write("second.example");
  expect(await shown()).toEqual(first);
  await tls.reload();
  expect(await shown()).toEqual(second);
  await writeFile(join(dir, "a.key"), "no key");
  await expect(tls.reload()).rejects.toMatchObject({ code: "CONFIG_INVALID" });
  expect(await shown()).toEqual(second);
  await rm(join(dir, "a.crt"));
  await expect(tls.reload()).rejects.toMatchObject({ code: "CONFIG_UNREADABLE" });
});

test("a certificate that nobody gave is made once, for its owner's eyes alone", async () => {
  const own = { stateDir: dir, host: "10.0.0.20", now };
  const [first, again] = [
    await ClientTls.open(settings(null, null), own),
    await ClientTls.open(settings(null, null), own),
  ];
  const shown = async (tls: ClientTls): Promise<Buffer> =>
    (await handshake(tls)).client.getPeerCertificate().raw;
  const raw = await shown(first);
  expect(await shown(again)).toEqual(raw);
  expect(new X509Certificate(raw).checkIP("10.0.0.20")).toBe("10.0.0.20");
  for (const name of ["router.key", "router.crt"])
    expect((await stat(join(dir, name))).mode & 0o777).toBe(0o600);
});

test("a handshake that fails, or never ends, ends the connection", async () => {
  await write("a.example");
  const tls = await ClientTls.open(settings(join(dir, "a.crt"), join(dir, "a.key")), {
    stateDir: dir,
    host: "h",
    now,
  });
  const refused = handshakeOf(
    tls,
    Buffer.from("this is no TLS at all, and long enough to be read as a record"),
  );
  await expect(refused.secured).rejects.toThrow();
  const silent = handshakeOf(tls, Buffer.alloc(0));
  (await silent.wire).destroy();
  await expect(silent.secured).rejects.toThrow("ended in the TLS handshake");
});

/** Sends `bytes` where a handshake is awaited. */
function handshakeOf(tls: ClientTls, bytes: Buffer): { wire: Promise<NetSocket>; secured: Promise<unknown> } {
  const listening = createServer(serverOptions);
  const wire = once(listening, "connection").then(([socket]: unknown[]) => {
    listening.close();
    const accepted = NetSocket.accept(socket as Parameters<typeof NetSocket.accept>[0]);
    open.push(accepted);
    return accepted;
  });
  const secured = wire.then((accepted) => accepted.secure((plain) => tls.secure(plain)));
  secured.catch(() => undefined);
  listening.listen(0, "127.0.0.1", () => {
    const { port } = listening.address() as AddressInfo;
    const client = connectPlain({ host: "127.0.0.1", port });
    client.on("error", () => undefined);
    client.write(bytes);
    open.push(client);
  });
  return { wire, secured };
}
